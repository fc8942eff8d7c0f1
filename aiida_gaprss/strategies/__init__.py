"""What makes frames to be labelled: pure functions with explicit seeds. No AiiDA."""
