#!/usr/bin/env bash
# From nothing to a fitted, searched-with potential of silicon: bash examples/demo.sh [SEED]
set -euo pipefail
source "$(dirname "$0")/environment.sh"
use_environment ""
exec aiida-gaprss demo --seed "${1:-1}" --folder "${GAPRSS_DEMO:-$project/gaprss-demo}"
