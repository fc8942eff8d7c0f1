#!/usr/bin/env bash
# A campaign on a cluster of one machine: bash examples/cluster/run.sh [CAMPAIGN.yaml]   (Debian or Ubuntu, as root)
#
# SLURM behind SSH, PostgreSQL and RabbitMQ; the daemon runs the campaign, the cluster its jobs. Afterwards: cluster.sh wipe
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../environment.sh"
use_environment qe
work=${GAPRSS_WORK:-$here/work}
mkdir -p "$work"
keep_aiida_in "$work/aiida"
bash "$here/cluster.sh" start
[ -e "$AIIDA_PATH/.aiida/config.json" ] || bash "$here/cluster.sh" profile cluster
aiida-gaprss setup --computer "$here/computer.yaml"
verdi daemon start 2
campaign=$work/campaign.yaml
grep -v "^codes:" "${1:-$project/aiida_gaprss/examples/silicon_sw.yaml}" > "$campaign"
echo "codes: {gap_fit: gap_fit@cluster, python: gaprss-python@cluster}" >> "$campaign"
started=$SECONDS
pk=$(aiida-gaprss run --submit "$campaign" | tee /dev/stderr | grep -oE "<[0-9]+>" | tr -d "<>")
while ! verdi process show "$pk" | grep -qE "^state +(Finished|Excepted|Killed)"; do
    sleep 5
    verdi process status "$pk" | tail -n 1
done
echo "the campaign took $((SECONDS - started)) s"
aiida-gaprss report "$pk" -o "$work/report"
