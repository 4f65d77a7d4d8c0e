"""Print what the long tests counted: kills, faults, kernels caught, operations, inputs.

    make soak                                                   # writes soak.json
    python -m pytest -q -m gpu tests/gpu tests/adversarial --tally gpu.json     # on a GPU
    python benchmarks/reliability.py soak.json gpu.json > benchmarks/results/reliability.md

It prints and measures nothing of its own: each figure is a count that a test made while it checked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def render(reports: Sequence[dict[str, Any]]) -> str:
    """The page: a table a section, and a column that says where it was counted."""
    sections: dict[str, list[str]] = {}
    for report in reports:
        place = report["gpu"] or "no GPU"
        for section, what, count in report["counts"]:
            named = what.replace("_", " ")
            sections.setdefault(section, []).append(f"| {named} | {count:,} | {place} |")
    lines = ["# Reliability", "", "Printed by `benchmarks/reliability.py`.", ""]
    for report in reports:
        outcome = "all passed" if report["passed"] else "SOME FAILED"
        lines.append(
            f"- {report['gpu'] or 'no GPU'}: Python {report['python']}, torch {report['torch']}, "
            f"Triton {report['triton']}: {outcome}"
        )
    for section, rows in sections.items():
        lines += ["", f"## {section}", "", "| what | count | where |", "|---|---:|---|", *rows]
    return "\n".join(lines) + "\n"


def main(paths: Sequence[str]) -> int:
    """Print the page of the reports at `paths`; returns the exit status."""
    if not paths:
        print(__doc__, file=sys.stderr)
        return 2
    reports = [json.loads(Path(path).read_text()) for path in paths]
    print(render(reports), end="")
    return 0 if all(report["passed"] for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
