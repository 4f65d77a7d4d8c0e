from __future__ import annotations

import sys
from pathlib import Path

# Tests import what they share as Python lets scripts: from their own folder.
sys.path.insert(0, str(Path(__file__).parent))
