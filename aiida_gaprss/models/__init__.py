"""Hyperparameters of a GAP, the input of gap_fit, and what its log says."""

#: Extra of a code node: version of the GAP behind it, as ``aiida-gaprss setup`` measures it.
GAP_VERSION_EXTRA = "gaprss_gap_version"
