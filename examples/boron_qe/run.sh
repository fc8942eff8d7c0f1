#!/usr/bin/env bash
# Boron from random cells with real DFT (PBE, Quantum ESPRESSO): bash examples/boron_qe/run.sh [SEED] [long|published]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../environment.sh"
use_environment qe
find_pw
work_in "$here" "$here/campaign.yaml" "$here/long.yaml" "$here/published.yaml"
python "$here/make_pseudopotential.py" "$work/pseudo"
keep_aiida_in "$work/aiida"
aiida-gaprss setup
seed=${1:-1}
if [ "${2:-}" = long ]; then
    python "$here/make_target.py" "$work"
    exec aiida-gaprss run "$work/long.yaml" --seed "$seed" --report "$work/report-long-seed$seed"
fi
if [ "${2:-}" = published ]; then
    find_pseudopotential B.pbe-n-kjpaw_psl.1.0.0.UPF "$work/pseudo"
    python "$here/make_target.py" "$work"
    exec aiida-gaprss run "$work/published.yaml" --seed "$seed" --report "$work/report-published-seed$seed"
fi
aiida-gaprss run "$work/campaign.yaml" --seed "$seed" --report "$work/report-seed$seed"
frame=$(python "$here/check.py" "$work/report-seed$seed" --frame)
echo
echo "One frame, traced to its pw.x run and to its seed:"
aiida-gaprss trace "$frame"
python "$here/check.py" "$work/report-seed$seed"
