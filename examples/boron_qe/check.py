"""Check the report of the boron campaign: enough labels, and energies that fall from generation to generation.

python check.py REPORT          print the medians; exit status 1 if they do not fall or labels are missing
python check.py REPORT --frame  print the frame_id of the lowest minimum that was labelled
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

LEAST_LABELS = 40


def main() -> int:
    """Run the check that the command line asks for."""
    report = json.loads((Path(sys.argv[1]) / "report.json").read_text(encoding="utf-8"))
    if "--frame" in sys.argv:
        print(next(row["frame_id"] for row in report["minima"] if row["E_ref_eV/atom"] is not None))
        return 0
    labels = report["labelled_frames"]
    medians = [row["median_energy_eV/atom"] for row in report["generations"]]
    shown = " → ".join(f"{median:.3f}" for median in medians)
    print(f"{labels} random boron cells labelled with PBE; median energy above the lowest by generation: {shown} eV/atom")
    if labels < LEAST_LABELS:
        print(f"expected at least {LEAST_LABELS} labels", file=sys.stderr)
        return 1
    if any(later >= earlier for earlier, later in itertools.pairwise(medians)):
        print("the medians do not fall", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
