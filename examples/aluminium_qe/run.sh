#!/usr/bin/env bash
# Aluminium from random cells with real DFT: bash examples/aluminium_qe/run.sh [SEED]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../environment.sh"
use_environment qe
find_pw
work_in "$here" "$here/campaign.yaml" "$here/targets.extxyz"
find_pseudopotential Al.pz-vbc.UPF "$work/pseudo"
keep_aiida_in "$work/aiida"
aiida-gaprss setup
seed=${1:-1}
aiida-gaprss run "$work/campaign.yaml" --seed "$seed" --report "$work/report-seed$seed"
