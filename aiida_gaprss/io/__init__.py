"""Files of other programs: extended XYZ, and outputs of CASTEP, VASP and Quantum ESPRESSO. No AiiDA."""
