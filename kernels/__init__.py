"""Code that runs outside XLA, imported as `jconv_kernels`: the optional second half of the core.

Each kernel is one more row in the table of implementations of an operation in `jconv.ops`, reached
lazily through `jconv.core`, and `jconv` works without any of them.
"""
