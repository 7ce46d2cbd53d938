"""The command line: a thin layer over `jconv.runs` and `jconv.summary`, which do all the work.

jconv train [DATA] [--model MODEL] [--resume RUN] ...     jconv evaluate RUN
jconv predict RUN IMAGE ... [--top 3]                     jconv summary MODEL [--input 32,32,3]
jconv receptive-field MODEL|RUN [--input 224,224,3] [--unit 3 3] [--image FILE] [--out FOLDER]
jconv bench [--ops OP ...] [--quick] [--output FILE]
"""

from __future__ import annotations

import sys

from jconv.allocator import keep_freed_memory
from jconv.core.versions import versions


def main() -> None:
    """Runs one command; what the user can mend is one line on standard error and exit code 2."""
    keep_freed_memory()
    if sys.argv[1:] == ["--version"]:  # asked of the core alone, too
        print("\n".join(f"{name} {version}" for name, version in versions().items()))
        return
    try:
        from jconv.cli.commands import run
    except ModuleNotFoundError as error:
        sys.exit(
            f"jconv: the command line needs {error.name}; run pip install "
            '"jconv[train]", or ".[train]" in a clone'
        )
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))
