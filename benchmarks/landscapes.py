"""Write recorded landscapes, which come with tunekit and which other scripts judge by.

    python benchmarks/landscapes.py benchmarks/landscapes/h100.csv.gz EVALUATIONS.jsonl[.gz] …

The sources are what `tunekit tune --exhaustive` stored, or evaluations made elsewhere; the file
says where they were recorded. tunekit/search/landscape.py is the format.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tunekit import records
from tunekit.core.evaluation import Evaluation, Provenance
from tunekit.search.landscape import landscapes_of, write

FOLDER = Path(__file__).parent / "landscapes"


def origin_of(provenance: Provenance) -> str:
    """Where and with what, in one line."""
    return (
        f"{provenance.gpu_name}, driver {provenance.driver}, torch {provenance.torch}, Triton "
        f"{provenance.triton}, protocol {provenance.protocol.removesuffix('-race')}, "
        f"{provenance.created_at[:10]}"
    )


def main() -> None:
    """Read, group by problem, write."""
    destination, *sources = map(Path, sys.argv[1:])
    rows = [
        row
        for source in sources
        for row in records.read_lines(source)
        if isinstance(row, Evaluation)
    ]
    landscapes = landscapes_of(rows)
    write(landscapes, origin_of(rows[0].provenance), destination)
    points = sum(len(landscape.points) for landscape in landscapes)
    print(
        f"{destination}: {len(landscapes)} problems, {points} configurations, "
        f"{destination.stat().st_size} bytes"
    )


if __name__ == "__main__":
    main()
