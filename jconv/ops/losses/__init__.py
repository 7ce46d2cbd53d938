"""The losses of `jconv.losses`, a family per file."""
