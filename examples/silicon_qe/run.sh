#!/usr/bin/env bash
# Silicon from random cells with real DFT, and what the potential is good for: bash examples/silicon_qe/run.sh [SEED]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../environment.sh"
use_environment qe
find_pw
work=${GAPRSS_WORK:-$here/work}
mkdir -p "$work/pseudo"
cp "$here"/*.yaml "$work/"
published=/usr/share/espresso/pseudo/Si.pz-vbc.UPF
if [ ! -f "$published" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Debian's quantum-espresso-data, for its pseudopotentials"
    apt-get install -y -qq --no-install-recommends quantum-espresso-data >/dev/null 2>&1 || true
fi
if [ ! -f "$published" ]; then
    echo "$published not found; on Debian or Ubuntu: apt-get install quantum-espresso-data" >&2
    exit 1
fi
cp "$published" "$work/pseudo/"
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
