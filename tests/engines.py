"""Compares two run folders as kills.py does: exit code 1 and a line for each file that differs.

    python tests/engines.py RUN OTHER
"""

import sys
from pathlib import Path

from kills import contents

one, other = (contents(Path(run)) for run in sys.argv[1:])
different = sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))
for path in different:
    print("different:", path)
if "results.json" not in one:
    sys.exit(f"{sys.argv[1]} has no results")
sys.exit(1 if different else 0)
