#!/usr/bin/env bash
# Zuo's database of an fcc, a bcc and a diamond element, and its GAP: bash examples/zuo_set/run.sh [Cu|Mo|Si …]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../environment.sh"
use_environment ""
work_in "$here" "$here"/*.yaml
keep_aiida_in "$work/aiida"
aiida-gaprss setup
cd "$work"
python - <<'EOF'
from ase.build import bulk
for name, structure, a in (("Cu", "fcc", 3.59), ("Mo", "bcc", 3.1472), ("Si", "diamond", 5.431)):
    bulk(name, structure, a=a, cubic=True).write(f"{name.lower()}.cif")
EOF
for element in "${@:-Mo}"; do
    aiida-gaprss build "$element.yaml" | tee "$element.log"
    database=$(sed -n 's/^Database <\([0-9]*\)>.*/\1/p' "$element.log")
    aiida-gaprss fit "$database" --protocol "zuo2020_$element" --test-fraction 0.1 --report "fit-$element"
done
