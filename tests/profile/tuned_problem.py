"""A problem tuned on an H100, whose launches are in data/two-launches.csv."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import (
    Binary,
    Decision,
    Evaluation,
    Provenance,
    Source,
    Status,
    VerifiedBy,
)
from tunekit.kernels.library import mish_add_hardtanh_scale

SHAPE = (128, 64, 256, 256)
WINNER = Config(BLOCK_SIZE=1024, VEC=1, num_warps=8, num_stages=1)
DEFAULT = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
LAUNCHED = {WINNER: "5882d22d226b9921", DEFAULT: "ca2069c66c6433c5"}
"""Hashes of the binaries whose launches are in two-launches.csv."""
GRID = (524288, 1, 1)


def launched_json(binaries: Iterable[str], grid: tuple[int, int, int] = GRID) -> dict[str, Any]:
    """What the program that is profiled leaves behind."""
    return {"launched": [{"binary": binary, "grid": list(grid)} for binary in binaries]}


def evaluations(source: Source = Source.MEASURED) -> list[Evaluation]:
    """The winner and the default of a problem on an H100."""
    device = DEVICES["h100"]
    launch = mish_add_hardtanh_scale.launch_for(SHAPE, "float32", device)
    provenance = Provenance(
        gpu_name="NVIDIA H100 80GB HBM3",
        sm_count=132,
        driver="580.159.04",
        torch="2.11.0",
        triton="3.6.0",
        tunekit="0.1.0",
        protocol="graph-cold-3",
        created_at="2026-11-21T05:00:00.000+00:00",
    )
    made = Evaluation(
        problem=mish_add_hardtanh_scale.problem_of(launch, device),
        shape=SHAPE,
        config=WINNER,
        status=Status.OK,
        source=source,
        provenance=provenance,
        verified_by=VerifiedBy.DEVICE if source is Source.MEASURED else VerifiedBy.INTERPRETER,
        time_us=1410.02,
        samples_us=(1410.02,) * 5 if source is Source.MEASURED else (),
        max_error=0.25,
    )
    times = {WINNER: 1410.02, DEFAULT: 1421.94}
    return [
        replace(
            made,
            config=config,
            time_us=time_us,
            samples_us=(time_us,) * len(made.samples_us),
            binary=Binary(LAUNCHED[config], 32, 0, 0, 16, 16),
        )
        for config, time_us in times.items()
    ]


def decision_of(winner: Evaluation, default: Evaluation | None) -> Decision:
    """That the one won."""
    rows = [each.uid for each in (winner, default) if each is not None]
    return Decision(
        problem=winner.problem,
        source=winner.source,
        winner=winner.uid,
        default="" if default is None else default.uid,
        reason="the fastest",
        created_at="2026-11-21T05:10:00.000+00:00",
        rows=tuple(sorted(set(rows))),
        speedup=1.008,
        copy_us=1460.0,
    )
