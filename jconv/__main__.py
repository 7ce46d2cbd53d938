"""`python -m jconv` is `jconv`."""

from jconv.cli import main

if __name__ == "__main__":
    main()
