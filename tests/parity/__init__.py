"""jconv against PyTorch, which runs in an environment of its own: a peer, never a dependency."""
