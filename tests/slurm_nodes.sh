#!/usr/bin/env bash
# Two Slurm nodes of one core on this one machine, for root.
# usage: slurm_nodes.sh start DIR | stop DIR; clients read DIR/slurm.conf (SLURM_CONF).
set -euo pipefail
action=$1 dir=$(realpath -m "$2") host=$(hostname -s)
export SLURM_CONF=$dir/slurm.conf
if [ "$action" = stop ]; then
  for pid in "$dir"/*.pid; do [ -f "$pid" ] && kill "$(cat "$pid")" || true; done
  exit
fi
mkdir -p "$dir/state" "$dir/spool-n1" "$dir/spool-n2"
# A requeued job waits for cred_expire and a second, 121 s by default.
cat >"$SLURM_CONF" <<CONF
ClusterName=kiln
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17000
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$dir/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
StateSaveLocation=$dir/state
SlurmctldPidFile=$dir/slurmctld.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdSpoolDir=$dir/spool-%n
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmdLogFile=$dir/slurmd-%n.log
SlurmdParameters=config_overrides
KillWait=10
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=1 RealMemory=4000
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17002 CPUs=1 RealMemory=4000
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF" -N n1
slurmd -f "$SLURM_CONF" -N n2
for _ in $(seq 60); do
  sinfo -h -t idle -o %D 2>/dev/null | grep -qx 2 && exit 0
  sleep 0.5
done
sinfo
exit 1
