"""AiiDA data nodes: datasets of frames, and potentials."""
