"""Hyperparameters of a GAP, the input of gap_fit, and what its log says."""
