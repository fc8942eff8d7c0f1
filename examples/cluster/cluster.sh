#!/usr/bin/env bash
# A cluster on this machine, for tests and to learn with: SLURM behind SSH, PostgreSQL and RabbitMQ, all on the loopback interface.
#
#   cluster.sh install          install Debian's packages that are not there
#   cluster.sh start            the same, and start everything that does not run
#   cluster.sh profile NAME     make an AiiDA profile on PostgreSQL and RabbitMQ (in AIIDA_PATH, with the verdi on PATH)
#   cluster.sh status           tell what runs
#   cluster.sh stop             stop everything; files stay
#   cluster.sh wipe             stop, and remove its files, its user and its line in ~/.ssh/config
#   cluster.sh stop|start munge|slurm|sshd|postgresql|rabbitmq      one service alone
#
# Debian or Ubuntu, as root (a container will do). All files are in GAPRSS_CLUSTER (default /tmp/gaprss-cluster), jobs run as the
# user gaprss-hpc whose home is in there. Ports: SSH 2022, SLURM 26817 and 26818, PostgreSQL 25432, RabbitMQ 25673.
# GAPRSS_CLUSTER_NUMBER=1 makes another one beside it: in /tmp/gaprss-cluster-1, user gaprss-hpc-1, host gaprss-cluster-1, ports + 10.
set -euo pipefail

number=${GAPRSS_CLUSTER_NUMBER:-0}
suffix=$([ "$number" = 0 ] || echo "-$number")
folder=${GAPRSS_CLUSTER:-/tmp/gaprss-cluster$suffix}
user=gaprss-hpc$suffix
host=gaprss-cluster$suffix              # as in: ssh gaprss-cluster
cpus=${GAPRSS_CLUSTER_CPUS:-$(nproc --all)}   # may be more than there are, to have many jobs run at one time
ssh_port=$((2022 + 10 * number)) slurmctld_port=$((26817 + 10 * number)) slurmd_port=$((26818 + 10 * number))
postgresql_port=$((25432 + 10 * number)) rabbitmq_port=$((25673 + 10 * number)) epmd_port=$((24369 + 10 * number))
services="munge slurm sshd postgresql rabbitmq"
export SLURM_CONF=$folder/slurm/slurm.conf

say() { echo "cluster: $*"; }

fail() {
    echo "cluster: $*" >&2
    exit 1
}

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
    local seconds=$1
    shift
    for ((i = 0; i < seconds * 5; i++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.2
    done
    return 1
}

# lives PID: a process that is no zombie.
lives() { [ -e "/proc/$1" ] && ! grep -qs "^State:.Z" "/proc/$1/status"; }

# pid_of FILE: the process a pid file speaks of, if it lives and is still one of the services.
pid_of() {
    local pid
    pid=$(head -n 1 "$1" 2>/dev/null) && [ -n "$pid" ] && lives "$pid" &&
        grep -qsE "^(munged|slurm|sshd|postgres|beam|rabbitmq|erl)" "/proc/$pid/comm" && echo "$pid"
}

# end FILE [SIGNAL]: end that process, and wait for it.
end() {
    local pid
    pid=$(pid_of "$1") || return 0
    kill "-${2:-TERM}" "$pid" 2>/dev/null || true
    for ((i = 0; i < 150; i++)); do
        lives "$pid" || return 0
        sleep 0.2
    done
    kill -KILL "$pid" 2>/dev/null || true
}

install_packages() {
    local missing=""
    for package in slurm-wlm munge openssh-server openssh-client postgresql rabbitmq-server python3-venv; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=" $package"
    done
    [ -z "$missing" ] && return
    command -v apt-get >/dev/null || fail "needs Debian's or Ubuntu's packages:$missing"
    say "installing$missing"
    # Nothing of it is to start by itself: this script starts all with files of its own.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' RETURN
    fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } \
        > "$folder/apt.log" 2>&1 || fail "apt-get failed, see $folder/apt.log"
}

# clear_remains: what is there of a cluster of this number in another folder, which was not wiped: a machine that went down, say.
clear_remains() {
    local home old name
    home=$(getent passwd "$user" | cut -d : -f 6) || return 0
    [ -n "$home" ] && [ "$home" != "$folder/home" ] || return 0
    old=${home%/home}
    for name in $services; do
        (folder=$old && runs_"$name" >/dev/null) && fail "cluster $number runs in $old; to remove it: GAPRSS_CLUSTER=$old GAPRSS_CLUSTER_NUMBER=$number $0 wipe"
    done
    [ ! -d "$old" ] || [ -e "$old/slurm/slurm.conf" ] || fail "user $user has the home $home, which is not of this script"
    say "removing what is left of a cluster in $old"
    (folder=$old && remove_files_and_user)
}

remove_files_and_user() {
    forget_host
    pkill -KILL -u "$user" 2>/dev/null || true
    sleep 0.5
    rm -rf "$folder"
    ! id "$user" >/dev/null 2>&1 || userdel "$user" 2>/dev/null || fail "cannot remove the user $user: does something of it run?"
}

make_user() {
    id "$user" >/dev/null 2>&1 || useradd --home-dir "$folder/home" --create-home --shell /bin/bash --password '*' "$user"  # no password, but not locked
    mkdir -p "$folder/home/.ssh" "$folder/scratch"
    [ -e "$folder/ssh/id" ] || ssh-keygen -q -t ed25519 -N "" -C "$host" -f "$folder/ssh/id"
    cp "$folder/ssh/id.pub" "$folder/home/.ssh/authorized_keys"
    chmod 700 "$folder/home/.ssh"
    chown -R "$user:" "$folder/home/.ssh" "$folder/scratch"
}

# --- the services: start_NAME, stop_NAME, runs_NAME ---

start_munge() {
    mkdir -p "$folder/munge"
    [ -e "$folder/munge/key" ] || (umask 077 && head -c 1024 /dev/urandom > "$folder/munge/key")
    chown -R munge: "$folder/munge"
    chmod 711 "$folder/munge"
    runuser -u munge -- munged --key-file "$folder/munge/key" --socket "$folder/munge/socket" --pid-file "$folder/munge/pid" \
        --log-file "$folder/munge/log" --seed-file "$folder/munge/seed" --force > /dev/null 2>&1 < /dev/null
}
stop_munge() { end "$folder/munge/pid"; }
runs_munge() { pid_of "$folder/munge/pid"; }

start_slurm() {
    local memory
    memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    mkdir -p "$folder/slurm/state" "$folder/slurm/spool"
    cat > "$SLURM_CONF" <<END
ClusterName=gaprss
SlurmctldHost=localhost
SlurmctldAddr=127.0.0.1
SlurmctldPort=$slurmctld_port
SlurmdPort=$slurmd_port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/slurm/state
SlurmdSpoolDir=$folder/slurm/spool
SlurmctldPidFile=$folder/slurm/slurmctld.pid
SlurmdPidFile=$folder/slurm/slurmd.pid
SlurmctldLogFile=$folder/slurm/slurmctld.log
SlurmdLogFile=$folder/slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
# Jobs above the memory they asked for are killed, looked at every two seconds.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
DefMemPerCPU=1000
MaxJobCount=10000
MinJobAge=60
InactiveLimit=0
KillWait=3
OverTimeLimit=0
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
NodeName=localhost NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
END
    # What a daemon prints it prints into its log; none may hold the output of this script open.
    slurmctld > /dev/null 2>&1 < /dev/null
    slurmd > /dev/null 2>&1 < /dev/null
    wait_for 20 scontrol ping || fail "slurmctld does not answer, see $folder/slurm/slurmctld.log"
    # A node that went away with its jobs is down until somebody says that it is back.
    wait_for 5 sh -c 'sinfo -h -o %t | grep -qE "idle|mix|alloc"' || scontrol update NodeName=localhost State=RESUME || true
    wait_for 20 sh -c 'sinfo -h -o %t | grep -qE "idle|mix|alloc"' || fail "the node is $(sinfo -h -o %t)"
}
stop_slurm() {
    end "$folder/slurm/slurmd.pid"
    end "$folder/slurm/slurmctld.pid"
}
runs_slurm() { pid_of "$folder/slurm/slurmctld.pid" && pid_of "$folder/slurm/slurmd.pid"; }

start_sshd() {
    mkdir -p "$folder/ssh" /run/sshd
    [ -e "$folder/ssh/host_key" ] || ssh-keygen -q -t ed25519 -N "" -f "$folder/ssh/host_key"
    cat > "$folder/ssh/sshd_config" <<END
Port $ssh_port
ListenAddress 127.0.0.1
HostKey $folder/ssh/host_key
PidFile $folder/ssh/pid
AllowUsers $user
AuthorizedKeysFile .ssh/authorized_keys
PasswordAuthentication no
UsePAM no
StrictModes no
MaxStartups 100
MaxSessions 100
SetEnv SLURM_CONF=$SLURM_CONF
Subsystem sftp internal-sftp
END
    # Root may have limits that a login as another user does not get; sshd with a clean environment, as on a real machine.
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/sbin/sshd -f "$folder/ssh/sshd_config" -E "$folder/ssh/log" > /dev/null 2>&1 < /dev/null
    mkdir -p ~/.ssh
    chmod 700 ~/.ssh
    forget_host
    [ -s ~/.ssh/config ] || echo > ~/.ssh/config
    cat > "$folder/ssh/config" <<END
Host $host
    HostName 127.0.0.1
    Port $ssh_port
    User $user
    IdentityFile $folder/ssh/id
    UserKnownHostsFile $folder/ssh/known_hosts
END
    sed -i "1i Include $folder/ssh/config" ~/.ssh/config  # before the first Host, or it belongs to that
    echo "[127.0.0.1]:$ssh_port $(cut -d ' ' -f 1,2 "$folder/ssh/host_key.pub")" > "$folder/ssh/known_hosts"
    wait_for 10 ssh "$host" true || fail "ssh $host does not work, see $folder/ssh/log"
}
# Connections live on in processes of their own: they end, too.
stop_sshd() {
    end "$folder/ssh/pid"
    pkill -f "^sshd: $user( |@|\$)" || true
}
runs_sshd() { pid_of "$folder/ssh/pid"; }
forget_host() { [ ! -e ~/.ssh/config ] || sed -i "\\|^Include $folder/ssh/config\$|d" ~/.ssh/config; }

postgresql_bin() { ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1; }
start_postgresql() {
    local bin data=$folder/postgresql/data
    bin=$(postgresql_bin)
    mkdir -p "$folder/postgresql"
    echo gaprss > "$folder/postgresql/password"
    chown -R postgres: "$folder/postgresql"
    if [ ! -e "$data/PG_VERSION" ]; then
        runuser -u postgres -- "$bin/initdb" -D "$data" --auth-local=trust --auth-host=scram-sha-256 -U postgres \
            --pwfile="$folder/postgresql/password" > "$folder/postgresql/initdb.log"
        echo "unix_socket_directories = '$folder/postgresql'" >> "$data/postgresql.conf"
        echo "listen_addresses = '127.0.0.1'" >> "$data/postgresql.conf"
        echo "port = $postgresql_port" >> "$data/postgresql.conf"
    fi
    (cd / && runuser -u postgres -- "$bin/pg_ctl" -D "$data" -l "$folder/postgresql/log" -w -t 60 start > /dev/null 2>&1 < /dev/null)
    psql_here -c "select 1 from pg_roles where rolname = 'aiida'" | grep -q 1 ||
        psql_here -c "create role aiida login password 'gaprss'" > /dev/null
}
psql_here() { psql -q -t -h "$folder/postgresql" -p "$postgresql_port" -U postgres -d postgres "$@"; }
stop_postgresql() {
    runs_postgresql >/dev/null || return 0
    (cd / && runuser -u postgres -- "$(postgresql_bin)/pg_ctl" -D "$folder/postgresql/data" -m "${PG_STOP:-fast}" -w stop > /dev/null)
}
runs_postgresql() { pid_of "$folder/postgresql/data/postmaster.pid"; }

rabbitmq() {
    (cd / && $1 runuser -u rabbitmq -- env HOME="$folder/rabbitmq" RABBITMQ_NODENAME=gaprss@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 \
        RABBITMQ_NODE_PORT="$rabbitmq_port" RABBITMQ_DIST_PORT=$((rabbitmq_port + 1)) ERL_EPMD_PORT="$epmd_port" \
        ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_MNESIA_BASE="$folder/rabbitmq/mnesia" RABBITMQ_LOG_BASE="$folder/rabbitmq/log" \
        RABBITMQ_PID_FILE="$folder/rabbitmq/pid" RABBITMQ_ENABLED_PLUGINS_FILE="$folder/rabbitmq/plugins" \
        RABBITMQ_ADVANCED_CONFIG_FILE="$folder/rabbitmq/advanced.config" RABBITMQ_CONF_ENV_FILE=/dev/null "${@:2}")
}
start_rabbitmq() {
    mkdir -p "$folder/rabbitmq"
    # Tasks of AiiDA stay with a worker for as long as a calculation runs.
    echo '[{rabbit, [{consumer_timeout, undefined}]}].' > "$folder/rabbitmq/advanced.config"
    echo '[].' > "$folder/rabbitmq/plugins"
    chown -R rabbitmq: "$folder/rabbitmq"
    rabbitmq setsid /usr/lib/rabbitmq/bin/rabbitmq-server > "$folder/rabbitmq/start.log" 2>&1 < /dev/null &
    disown
    wait_for 60 rabbitmq "" /usr/lib/rabbitmq/bin/rabbitmqctl await_startup --timeout 5 \
        || fail "RabbitMQ does not come up, see $folder/rabbitmq/start.log"
}
stop_rabbitmq() {
    runs_rabbitmq >/dev/null || return 0
    rabbitmq "" /usr/lib/rabbitmq/bin/rabbitmqctl stop "$folder/rabbitmq/pid" >/dev/null 2>&1 || end "$folder/rabbitmq/pid" KILL
}
runs_rabbitmq() { pid_of "$folder/rabbitmq/pid"; }

make_profile() {
    local name=$1
    command -v verdi >/dev/null || fail "verdi is not on PATH"
    runs_postgresql >/dev/null && runs_rabbitmq >/dev/null || fail "start the cluster first"
    psql_here -c "create database \"$name\" owner aiida encoding 'UTF8' template template0" > /dev/null
    verdi profile setup core.psql_dos --non-interactive --profile-name "$name" --set-as-default --email aiida@localhost \
        --first-name Cluster --last-name Test --institution none --broker none --database-hostname 127.0.0.1 \
        --database-port "$postgresql_port" --database-username aiida --database-password gaprss --database-name "$name" \
        --repository-uri "file://${AIIDA_PATH:-$HOME/.aiida}/repository-$name"
    verdi profile configure-broker core.rabbitmq --non-interactive --broker-protocol amqp --broker-username guest \
        --broker-password guest --broker-host 127.0.0.1 --broker-port "$rabbitmq_port" --broker-virtual-host "" "$name"
    # AiiDA warns of newer ones for a time limit of theirs (consumer_timeout), which this one does not have.
    verdi -p "$name" config set warnings.rabbitmq_version False
    verdi -p "$name" config set daemon.timeout 30
}

# --- the command ---

start_one() {
    if runs_"$1" >/dev/null; then
        say "$1 runs"
    else
        start_"$1"
        say "$1 started"
    fi
}

command=${1:-} only=${2:-$services}
[ "$(id -u)" = 0 ] || fail "needs root: SLURM starts the jobs of another user"
mkdir -p "$folder"
chmod 755 "$folder"
if [ "$command" = profile ]; then
    make_profile "${2:?name of the profile}"
    exit
fi
for name in $only; do
    [[ " $services " == *" $name "* ]] || fail "no service $name; there are: $services"
done
case $command in
    install) install_packages ;;
    start)
        mkdir -p "$folder/ssh"
        install_packages
        clear_remains
        make_user
        for name in $only; do start_one "$name"; done
        [ -n "${2:-}" ] || cat <<END
cluster: ready. Jobs:      ssh $host, then sbatch, squeue (user $user, scratch $folder/scratch)
cluster:        profile:   cluster.sh profile NAME (PostgreSQL on port $postgresql_port, RabbitMQ on port $rabbitmq_port)
cluster:        computer:  aiida-gaprss setup --computer examples/cluster/computer.yaml
END
        ;;
    stop | wipe)
        for name in $(printf '%s\n' $only | tac); do
            stop_"$name"
            say "$name stopped"
        done
        if [ "$command" = wipe ]; then
            ERL_EPMD_PORT=$epmd_port epmd -kill >/dev/null 2>&1 || true
            remove_files_and_user
        fi
        ;;
    status)
        for name in $only; do
            if runs_"$name" >/dev/null; then say "$name runs"; else say "$name does not run"; fi
        done
        ;;
    *) fail "usage: cluster.sh install|start|status|stop|wipe [$(echo $services | tr ' ' '|')], or: cluster.sh profile NAME" ;;
esac
