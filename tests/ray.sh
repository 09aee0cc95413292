#!/usr/bin/env bash
# One sweep by one process and by Ray on this machine, whose workers are stopped by a time limit once: all results must be
# the same. Installs Ray in a virtual environment, which is too large for every change.
# usage: ray.sh KILN [DIR]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kiln=$(realpath "$1")
dir=$(realpath -m "${2:-$(mktemp -d)}")
venv=${VENV:-$dir/venv}
export RAY_USAGE_STATS_ENABLED=0
run=$'run 1 \'é\'#{}'
sweep=(quickstart 'arms=[]' experts.order=importance,random --seeds 2 data.synthetic.train=3000 data.synthetic.dev=200
  latency.repeats=1 --out "$run" --store store)
mkdir -p "$dir/alone" "$dir/ray"
"$venv/bin/python" -c 'import ray' 2>/dev/null || { python3 -m venv "$venv" && "$venv/bin/pip" install -q ray; }
export PATH=$venv/bin:$PATH

cd "$dir/alone"
"$kiln" ablate --ui none "${sweep[@]}" >table
cd "$dir/ray"
began=$SECONDS
for limit in '--time 3s' ''; do
  code=0
  # shellcheck disable=SC2086
  timeout -s KILL 200 "$kiln" submit --to ray --workers 2 $limit "${sweep[@]}" >>log 2>&1 || code=$?
  [ "$code" = "$([ "$limit" ] && echo 1 || echo 0)" ] || { tail -n 20 log; echo "FAILED: exit code $code" >&2; exit 1; }
done
grep -q 'exit codes of the workers: \[143, 143\]' log || { tail -n 20 log; echo "FAILED: no 143" >&2; exit 1; }
python3 "$here/engines.py" "$dir/alone/$run" "$run"
echo "ray $(python -c 'import ray; print(ray.__version__)'): same results, $((SECONDS - began)) s"
