#!/usr/bin/env bash
# Carbon from random cells with real DFT: bash examples/carbon_qe/run.sh [SEED]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../environment.sh"
search_with_pw "$here" "${1:-1}" C.pz-rrkjus.UPF
