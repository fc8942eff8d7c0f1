"""Pair potentials fitted by linear least squares: the first stage of larger models, and the measure of how far pairs go alone."""
