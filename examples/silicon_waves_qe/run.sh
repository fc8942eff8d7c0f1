#!/usr/bin/env bash
# Diamond's phonons from cells of two and four atoms, with real DFT, beside pw.x itself: bash examples/silicon_waves_qe/run.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../environment.sh"
use_environment qe
find_pw
work_in "$here" "$here"/*.yaml
find_pseudopotential Si.pz-vbc.UPF "$work/pseudo"
keep_aiida_in "$work/aiida"
aiida-gaprss setup
python -c "from ase.build import bulk; bulk('Si', 'diamond', 5.406).write('$work/diamond.cif')"
cd "$work"
aiida-gaprss build build.yaml | tee build.log
database=$(sed -n 's/^Database <\([0-9]*\)>.*/\1/p' build.log)
aiida-gaprss fit "$database" --settings fit.yaml --report fit | tee fit.log
potential=$(sed -n 's/^Potential <\([0-9]*\)>.*/\1/p' fit.log)
aiida-gaprss validate "$potential" --crystals diamond.cif --settings validate.yaml --reference reference.yaml --report validation
