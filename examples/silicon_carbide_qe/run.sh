#!/usr/bin/env bash
# Silicon carbide from random cells with real DFT: bash examples/silicon_carbide_qe/run.sh [SEED]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../environment.sh"
search_with_pw "$here" "${1:-1}" Si.pz-vbc.UPF C.pz-rrkjus.UPF
