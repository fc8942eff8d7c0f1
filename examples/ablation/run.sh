#!/usr/bin/env bash
# Smooth and tight SOAP while iterating, side by side: bash examples/ablation/run.sh [SEEDS]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../environment.sh"
use_environment ""
work_in "$here" "$here"/*.yaml
keep_aiida_in "$work/aiida"
aiida-gaprss setup
cd "$work"
aiida-gaprss compare smooth.yaml middle.yaml tight.yaml --seeds "${1:-3}"
