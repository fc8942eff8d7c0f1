"""A campaign: its settings, its file, and the inputs of its work chain."""
