"""Ways to compute a convolution on XLA: pure functions that know no primitive."""
