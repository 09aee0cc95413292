#!/usr/bin/env bash
# Checks the manifest for Kubernetes against the schemas of Kubernetes, and its command as YAML reads it.
# usage: k8s.sh KILN [DIR]
set -euo pipefail
kiln=$(realpath "$1")
dir=$(realpath -m "${2:-$(mktemp -d)}")
venv=${VENV:-$dir/venv}
mkdir -p "$dir"
"$venv/bin/python" -c 'import kubernetes_validate' 2>/dev/null ||
  { python3 -m venv "$venv" && "$venv/bin/pip" install -q kubernetes-validate==1.37.0; }
cd "$dir"
run=$'Run 1é \'"$HOME" $(x)'
for limits in '' '--cpus 4 --memory 8G --time 4h'; do
  # shellcheck disable=SC2086
  "$kiln" submit --to k8s --workers 8 $limits --print quickstart experts.order=importance,random --out "$run" >k8s.yaml
  "$venv/bin/python" - "$dir/$run" "$dir/runs/store" <<'PYTHON'
import sys
import kubernetes_validate, yaml
manifest = yaml.safe_load(open("k8s.yaml", encoding="utf-8"))
for version in ("1.29", "1.31", "1.33", "1.37"):
    kubernetes_validate.validate(manifest, version, strict=True)
[container] = manifest["spec"]["template"]["spec"]["containers"]
# Kubernetes reads `$$` as `$`, and replaces `$(NAME)`.
read = [word.replace("$$", "$") for word in container["command"]]
assert all("$" not in word.replace("$$", "") for word in container["command"])
run, store = sys.argv[1:]
expected = ["kiln", "ablate", "quickstart", "experts.order=importance,random", "--out", run, "--store", store]
assert read == expected, read
# A schema that accepts anything would be no check.
manifest["spec"]["completion"] = 3
try:
    kubernetes_validate.validate(manifest, "1.33", strict=True)
except kubernetes_validate.ValidationError:
    pass
else:
    sys.exit("an unknown field was accepted")
PYTHON
done
echo "the manifest is valid in Kubernetes 1.29, 1.31, 1.33 and 1.37"
