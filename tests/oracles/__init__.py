"""Definitions in float64 NumPy, written as loops from the papers and manuals.

They never import jconv or JAX, so an error in jconv cannot agree with itself here. Speed is no aim.
"""
