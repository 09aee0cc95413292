#!/usr/bin/env bash
# One sweep by one process, by two Slurm nodes on this machine with a requeue and a time limit in between, by GNU parallel
# and by HyperQueue: all results must be the same. Needs root, for apt-get and Slurm; installs what is missing, and changes
# nothing else outside DIR. Takes one to three minutes.
# usage: engines.sh KILN [DIR]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kiln=$(realpath "$1")
dir=$(realpath -m "${2:-$(mktemp -d)}")
venv=${VENV:-$dir/venv}
began=$SECONDS
fail() { echo "FAILED: $*" >&2; exit 1; }

# A run folder that scripts must quote, and a recipe with a relative path.
run=$'run 1 \'é\'#{}'
sweep=(sweep.toml 'arms=[]' experts.order=importance,random --seeds 2 data.synthetic.train=3000 data.synthetic.dev=200
  latency.repeats=1 --out "$run" --store store --reference experts.order=random)

install() {
  local packages=()
  command -v slurmctld >/dev/null || packages+=(slurmctld slurmd slurm-client munge)
  command -v parallel >/dev/null || packages+=(parallel)
  command -v python3 >/dev/null || packages+=(python3)
  dpkg -s python3-venv >/dev/null 2>&1 || python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
  if [ ${#packages[@]} -gt 0 ]; then
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
  fi
  "$venv/bin/python" -c 'import hyperqueue' 2>/dev/null ||
    { python3 -m venv "$venv" && "$venv/bin/pip" install -q hyperqueue==0.27.0; }
}

# Enters a folder of its own for an engine.
enter() {
  mkdir -p "$dir/$1"
  cd "$dir/$1"
  cp "$here/../experiments/recipes/quickstart.toml" sweep.toml
}

submit() { "$kiln" submit --to "$@" "${sweep[@]}"; }

# Waits for at most a minute until a command succeeds.
until_() {
  for _ in $(seq 300); do "$@" && return; sleep 0.2; done
  fail "it takes too long: $*"
}

alone() {
  enter alone
  "$kiln" ablate --ui none "${sweep[@]}" >table
}

# One task is requeued as by an administrator, the other gets the signal of its time limit. Both must stop with a checkpoint
# and go on.
slurm() {
  enter slurm
  "$here/slurm_nodes.sh" start "$dir/nodes" >/dev/null
  trap '"$here/slurm_nodes.sh" stop "$dir/nodes"' EXIT
  export SLURM_CONF=$dir/nodes/slurm.conf
  local id task
  id=$(submit slurm --workers 2 --memory 1G --time 4min)
  for task in 1 2; do until_ grep -qs 'epoch 1/. train' "$run/submit/slurm-${id}_$task.log"; done
  scontrol requeue "${id}_1"
  scancel --batch --signal=USR1 "${id}_2"
  for task in 1 2; do
    until_ grep -qs 'stopped; run the same command again' "$run/submit/slurm-${id}_$task.log"
  done
  until_ eval '[ -z "$(squeue -h)" ]'
  [ "$(scontrol show job "$id" | grep -c Restarts=1)" = 2 ] || fail "slurm: both tasks should have started again"
  "$here/slurm_nodes.sh" stop "$dir/nodes"
  trap - EXIT
  unset SLURM_CONF
}

# All workers are stopped by a limit first. The same script, edited and started in another folder, goes on.
parallel_() {
  enter parallel
  if submit parallel --workers 3 --time 3s >/dev/null 2>&1; then fail "parallel: the limit was not noticed"; fi
  local log=$run/submit/parallel.log script=$dir/parallel/$run/submit/parallel.sh
  [ "$(awk -F '\t' 'NR > 1 && $7 == 143' "$log" | wc -l)" = 3 ] || { cat "$log"; fail "parallel: exit codes"; }
  sed -i 's/--timeout 3//' "$script"
  (cd / && bash "$script") >log 2>&1 || { tail log; fail "parallel"; }
}

# A cluster of its own by the Python interface: the wheel has no program `hq`, so that the script cannot be started.
hq() {
  enter hq
  ! submit hq --workers 3 2>/dev/null || fail "hq: there is a program"
  timeout -s KILL 120 "$venv/bin/python" "$run/submit/hq.py" >log 2>&1 || { tail log; fail "hq"; }
}

# Each worker does its share alone.
shards() {
  enter shards
  submit parallel --workers 2 --shard >log 2>&1 || { tail log; fail "shards"; }
}

mkdir -p "$dir"
install
echo "installed: $((SECONDS - began)) s; $(slurmctld -V), $(command parallel --version | head -n 1)," \
  "HyperQueue $("$venv/bin/python" -c 'import importlib.metadata as m; print(m.version("hyperqueue"))')"
for engine in alone slurm parallel_ hq shards; do
  engine_began=$SECONDS
  $engine
  python3 "$here/engines.py" "$dir/alone/$run" "$run" || fail "$engine: other results"
  echo "${engine%_}: same results, $((SECONDS - engine_began)) s"
done
echo "all: $((SECONDS - began)) s"
