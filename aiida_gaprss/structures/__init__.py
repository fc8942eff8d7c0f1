"""Make atoms: pure functions on ase.Atoms with explicit seeds."""
