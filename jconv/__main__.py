"""`python -m jconv` is `jconv`."""

from jconv.cli import main

main()
