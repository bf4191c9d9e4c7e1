#!/usr/bin/env bash
# A real Slurm on this machine alone: a controller and a node with two GPUs that are only files.
#   slurm.sh start FOLDER PID   starts it; its files, sockets and logs are in FOLDER; it stops when process PID is gone
#   slurm.sh stop FOLDER        ends its daemons and all of its jobs
# Needs root, munge and slurm-wlm (Debian). Where a Slurm is set up already, it does nothing and ends with status 3.
set -euo pipefail
folder=$2
owner=${3:-}
host=$(hostname -s)
known=/etc/slurm/slurm.conf # where all of Slurm looks for it; a variable would not reach the steps of a job

daemons=(slurmd slurmctld munged)
cluster() {
    sed -n 's/^ClusterName=//p' "$folder/slurm.conf"
}
stop() {
    [ -f "$folder/slurm.conf" ] || return 0
    if [ "$(readlink "$known")" = "$folder/slurm.conf" ]; then # or all of these commands would speak to another one
        timeout 5 scancel --user root >/dev/null 2>&1 || true
        for _ in {1..20}; do # until the jobs are gone
            [ -n "$(timeout 5 squeue --noheader 2>/dev/null)" ] || break
            sleep 0.5
        done
    fi
    # Without cgroups Slurm loses the children of a process that it killed.
    for environment in $(grep -lsz "^SLURM_CLUSTER_NAME=$(cluster)$" /proc/[0-9]*/environ); do
        kill -KILL "$(basename "$(dirname "$environment")")" 2>/dev/null || true
    done
    for signal in TERM KILL; do
        for name in "${daemons[@]}"; do
            if [ -s "$folder/$name.pid" ]; then
                kill -"$signal" "$(cat "$folder/$name.pid")" 2>/dev/null || true
            fi
        done
        [ "$signal" = KILL ] || sleep 1
    done
    [ "$(readlink "$known")" != "$folder/slurm.conf" ] || rm "$known"
}

start() {
    if [ -e "$known" ] && { [ ! -L "$known" ] || timeout 5 scontrol ping | grep -q UP; }; then
        echo "$known is there: this machine has a Slurm" >&2
        exit 3
    fi
    mkdir -p "$folder"/{spool,state}
    chmod 755 "$folder"
    ln -sf /dev/null "$folder/gpu0"; ln -sf /dev/zero "$folder/gpu1" # they must be devices
    read -r control node < <(python3 -c '
import socket
sockets = [socket.socket() for _ in range(2)]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))')
    cat > "$folder/gres.conf" <<CONF
AutoDetect=off
NodeName=$host Name=gpu File=$folder/gpu[0-1]
CONF
    cat > "$folder/slurm.conf" <<CONF
ClusterName=test$$
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$control
SlurmdPort=$node
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
GresTypes=gpu
MpiDefault=none
KillWait=1
MinJobAge=86400
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=100000 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    (umask 077 && head -c 128 /dev/urandom > "$folder/munge.key")
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
        --seed-file="$folder/munge.seed" --log-file="$folder/munged.log"
    ln -sfn "$folder/slurm.conf" "$known"
    slurmctld -c -f "$folder/slurm.conf"
    slurmd -c -f "$folder/slurm.conf"
    for _ in {1..100}; do
        if timeout 5 sinfo --noheader --format=%t 2>/dev/null | grep -q idle; then
            setsid bash -c 'while [ -d "$1" ] && kill -0 "$2" 2>/dev/null; do sleep 2; done; "$0" stop "$1"; rm -rf "$1"' "$0" "$folder" "$owner" \
                >/dev/null 2>&1 </dev/null &
            return
        fi
        sleep 0.2
    done
    echo "Slurm did not start; its logs:" >&2
    tail -n 20 "$folder"/*.log >&2
    stop
    exit 1
}

"$1"
