#!/usr/bin/env bash
# Silicon from random cells with real DFT, and what the potential is good for: bash examples/silicon_qe/run.sh [SEED]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../environment.sh"
use_environment qe
find_pw
work_in "$here" "$here"/*.yaml "$here/targets.extxyz"
find_pseudopotential Si.pz-vbc.UPF "$work/pseudo"
keep_aiida_in "$work/aiida"
aiida-gaprss setup
seed=${1:-1}
aiida-gaprss run "$work/campaign.yaml" --seed "$seed" --report "$work/report-seed$seed"
python -c "from ase.build import bulk; bulk('Si', 'diamond', 5.40).write('$work/diamond.cif')"
campaign=$(python - "$work/report-seed$seed/report.json" <<'EOF'
import json, sys
print(json.load(open(sys.argv[1]))["final_potential"])
EOF
)
aiida-gaprss validate "$campaign" --crystals "$work/diamond.cif" --settings "$work/validate.yaml" \
    --reference "$work/reference.yaml" --report "$work/validation-seed$seed"
