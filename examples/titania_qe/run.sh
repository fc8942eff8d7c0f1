#!/usr/bin/env bash
# Titanium dioxide from random cells with real DFT: bash examples/titania_qe/run.sh [SEED]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../environment.sh"
search_with_pw "$here" "${1:-1}" Ti.pz-sp-van_ak.UPF O.pz-rrkjus.UPF
