#!/usr/bin/env bash
# Silicon carbide from random cells with real DFT: bash examples/silicon_carbide_qe/run.sh [SEED]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../environment.sh"
use_environment qe
find_pw
work_in "$here" "$here/campaign.yaml" "$here/targets.extxyz"
find_pseudopotential Si.pz-vbc.UPF "$work/pseudo"
find_pseudopotential C.pz-rrkjus.UPF "$work/pseudo"
keep_aiida_in "$work/aiida"
aiida-gaprss setup
seed=${1:-1}
aiida-gaprss run "$work/campaign.yaml" --seed "$seed" --report "$work/report-seed$seed"
