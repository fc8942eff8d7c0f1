"""Numbers out of frames: errors against the reference, distinct minima. No AiiDA."""
