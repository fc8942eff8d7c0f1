"""Gaussian approximation potentials from random structure searching, as AiiDA workflows."""

__version__ = "0.2.0"
