#!/usr/bin/env bash
# Exports a small run with the program and reads everything back with the programs that it is for; all values must be equal.
#
#     tests/exports.sh KILN
#
# KILN is the program. Needs python3 with venv, and installs the readers into target/readers (or $READERS), which takes some minutes the
# first time.
set -euo pipefail
kiln=$(realpath "${1:?usage: tests/exports.sh KILN}")
cd "$(dirname "$0")/.."
readers="${READERS:-target/readers}"
[ -x "$readers/bin/python" ] || python3 -m venv "$readers"
"$readers/bin/pip" install -q --disable-pip-version-check \
    tensorboard==2.21.0 pyarrow==25.0.1 polars==2.1.0 mlflow==3.17.2 trackio==0.43.0
exec "$readers/bin/python" tests/exports.py "$kiln"
