from __future__ import annotations

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

# The scripts import one another as Python lets them when one is run: from their own folder.
sys.path.insert(0, str(BENCHMARKS))
