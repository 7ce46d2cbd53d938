"""jconv.lax beside jax.lax: the same calls to both."""
