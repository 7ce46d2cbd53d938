"""`python -m jconv.cli`, where no script is installed."""

from jconv.cli import main

main()
