"""Gaussian approximation potentials: settings of gap_fit, forecast, log, and the xml of a potential."""
