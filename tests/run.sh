#!/usr/bin/env bash
# Set everything up and run the tests: bash tests/run.sh [--full] [pytest options]; --full: also those that take long
set -euo pipefail
source "$(dirname "$0")/../examples/environment.sh"
use_environment dev
find_pw || echo "the tests with real DFT will be skipped"
bash "$project/examples/cluster/cluster.sh" install || echo "the tests on a cluster will be skipped"
cd "$project"
if [ "${1:-}" = --full ]; then
  shift
  set -- -m "" "$@"
fi
# Two processes, each with a profile of its own and a file at a time; more would share the two cores with the jobs of the tests.
exec python -m pytest -n "$(($(nproc) < 2 ? 1 : 2))" "$@"
