"""What a checkpoint must contain, leaf by leaf: shape, dtype and SHA-256 of the bytes.

Orbax keeps no checksum of what it writes: of 60 checkpoints with one flipped bit each, it loaded
all 60, silently wrong. The manifest lies beside the arrays and carries a hash of itself.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

FORMAT = 1


class DamagedCheckpoint(RuntimeError):
    """A checkpoint's bytes are not those that were saved."""


def leaves(tree: Any) -> dict[str, Any]:
    """Every array of `tree` under its dotted path, such as `params.conv.kernel`.

    Raises:
      ValueError: two arrays have the same path.
    """
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        # The array of a Variable `kernel` is `kernel.value`, which tells a reader nothing.
        name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
        if name in named:
            raise ValueError(f"checkpoint: two arrays are called {name}")
        named[name] = leaf
    return named


def to_host(leaf: Any) -> np.ndarray:
    """A copy of `leaf` in host memory; of a typed PRNG key, its uint32 data.

    A copy: a view of the memory of a CPU device would keep the next step from writing over it.
    """
    return np.array(jax.random.key_data(leaf) if is_key(leaf) else leaf, copy=True)


def is_key(leaf: Any) -> bool:
    """Whether `leaf` is an array of typed PRNG keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def type_of(leaf: Any) -> str:
    """Dtype and shape as in `float32(3, 3, 16, 32)`; a key's dtype names its generator."""
    return f"{leaf.dtype}{tuple(leaf.shape)}"


def sha256(array: np.ndarray) -> str:
    """Of the array's bytes in C order, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8)).hexdigest()


def describe(
    tree: Mapping[str, Any], hosts: Mapping[str, np.ndarray], extra: Any
) -> dict[str, Any]:
    """The manifest of the leaves `tree`, whose bytes are `hosts`, and of the JSON value `extra`."""
    with ThreadPoolExecutor() as pool:  # hashlib releases the interpreter's lock
        hashes = list(pool.map(sha256, hosts.values()))
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "leaves": {
            name: {"type": type_of(leaf), "sha256": digest}
            for (name, leaf), digest in zip(tree.items(), hashes, strict=True)
        },
        "extra": json_sha256(extra),
    }
    return {**manifest, "sha256": json_sha256(manifest)}


def json_sha256(value: Any) -> str:
    """Of a JSON value written in one way: sorted keys, no spaces."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def parsed(folder: Path, read: Callable[[], Any]) -> Any:
    """What `read()` gives.

    Raises:
      DamagedCheckpoint: it raises anything.
    """
    try:
        with quiet():
            return read()
    except Exception as error:  # Orbax and TensorStore raise many types on bytes they can't parse
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = reason.split(" [tensorstore_spec=")[0]
        raise DamagedCheckpoint(
            f"restore: the checkpoint of step {folder.name} can't be read; in {folder}: {reason}"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Orbax's warnings, and what its other threads and coroutines say about an error
    that is raised too.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels, hook = [logger.level for logger in loggers], sys.unraisablehook
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda _: None
    try:
        yield
    except Exception:
        gc.collect()  # coroutines speak when they are collected
        raise
    finally:
        sys.unraisablehook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def check_texts(folder: Path, extra: Any, manifest: Any) -> None:
    """Compares both JSON values with their hashes.

    Raises:
      DamagedCheckpoint: they differ.
      ValueError: the checkpoint is of another version of this format.
    """
    body = {name: value for name, value in manifest.items() if name != "sha256"}
    texts = {"manifest": (body, manifest.get("sha256")), "extra": (extra, manifest.get("extra"))}
    for name, (value, expected) in texts.items():
        _check_hash(folder, name, folder / name / "metadata", json_sha256(value), expected)
    if manifest["format"] != FORMAT:
        raise ValueError(
            f"restore: this version of jconv reads format {FORMAT}; got format "
            f"{manifest['format']} in {folder}"
        )


def check_arrays(folder: Path, hosts: Mapping[str, np.ndarray], manifest: Any) -> None:
    """Compares every array with its hash.

    Raises:
      DamagedCheckpoint: one differs or is missing.
    """
    file = folder / "state"
    for name, entry in manifest["leaves"].items():
        if name not in hosts:
            raise DamagedCheckpoint(
                f"restore: the checkpoint of step {folder.name} lacks {name}; in {file}"
            )
        what = f"leaf {name} {entry['type']}"
        _check_hash(folder, what, file, sha256(hosts[name]), entry["sha256"])


def _check_hash(folder: Path, what: str, file: Path, found: str, expected: Any) -> None:
    if found != expected:
        raise DamagedCheckpoint(
            f"restore: the checkpoint of step {folder.name} is damaged: {what} has SHA-256 "
            f"{found}, but {expected} was saved; in {file}"
        )
