#!/usr/bin/env bash
# Silicon from random cells with real DFT, and what the potential is good for: bash examples/silicon_qe/run.sh [SEED]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../environment.sh"
seed=${1:-1}
search_with_pw "$here" "$seed" Si.pz-vbc.UPF
python -c "from ase.build import bulk; bulk('Si', 'diamond', 5.40).write('$work/diamond.cif')"
campaign=$(python - "$work/report-seed$seed/report.json" <<'EOF'
import json, sys
print(json.load(open(sys.argv[1]))["final_potential"])
EOF
)
aiida-gaprss validate "$campaign" --crystals "$work/diamond.cif" --settings "$work/validate.yaml" \
    --reference "$work/reference.yaml" --report "$work/validation-seed$seed"
