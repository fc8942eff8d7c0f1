#!/usr/bin/env bash
# The recipe of PRL 120, 156001 at full size on Stillinger-Weber silicon: bash examples/full_size/run.sh [SEED]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../environment.sh"
use_environment ""
work_in "$here" "$here/campaign.yaml"
python "$here/make_crystals.py" "$work"
keep_aiida_in "$work/aiida"
aiida-gaprss setup
seed=${1:-1}
time aiida-gaprss run "$work/campaign.yaml" --seed "$seed" --report "$work/report-seed$seed"
