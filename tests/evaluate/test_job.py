from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest

from tunekit.core.config import Config
from tunekit.core.evaluation import Binary, Status, VerifiedBy
from tunekit.evaluate.job import Job, Outcome, Race

JOB = Job(
    kernel="my/kernels.py:gate",
    shape=(2, 3),
    dtype="bfloat16",
    scalars={"scale": 2.0},
    config=Config(BLOCK_SIZE=1024, VEC=8, num_warps=4, num_stages=1),
    target="rtx4090",
    seed=7,
    deadline_s=1.5,
    warm=True,
    hopeless_us=12.5,
)
BINARY = Binary("abc", registers=32, spill_bytes=0, shared_bytes=128, load_bytes=16, store_bytes=8)


def _across_a_pipe(data: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(data))


def test_a_job_crosses_a_pipe_unchanged() -> None:
    job = Job.from_json(_across_a_pipe(JOB.to_json()))
    assert job == JOB
    assert isinstance(job.config, Config)
    assert isinstance(job.shape, tuple)
    assert list(job.config) == list(JOB.config)


def test_a_job_is_plain_data() -> None:
    def plain(value: object) -> bool:
        if isinstance(value, Mapping):
            return all(plain(each) for each in (*value.keys(), *value.values()))
        if isinstance(value, list | tuple):
            return all(map(plain, value))
        return value is None or type(value) in (str, int, float, bool)

    assert plain(JOB.to_json())


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(Status.TIMEOUT, reason="no answer"),
        Outcome(Status.WRONG, reason="differs", binary=BINARY, max_error=math.inf),
        Outcome(
            Status.OK,
            verified_by=VerifiedBy.DEVICE,
            time_us=3.25,
            samples_us=(3.0, 3.25, 3.5),
            binary=BINARY,
            max_error=0.5,
        ),
        Outcome(Status.OK, verified_by=VerifiedBy.INTERPRETER, time_us=1.0, disturbance="fog"),
        Outcome(Status.OK, binary=BINARY, grid=(4096, 2, 1)),
    ],
)
def test_an_outcome_crosses_a_pipe_unchanged(outcome: Outcome) -> None:
    received = Outcome.from_json(_across_a_pipe(outcome.to_json()))
    assert received == outcome
    assert isinstance(received.status, Status)
    assert received.binary is None or isinstance(received.binary, Binary)
    assert received.grid is None or isinstance(received.grid, tuple)
    assert received.verified_by is None or isinstance(received.verified_by, VerifiedBy)


def test_a_race_crosses_a_pipe_unchanged() -> None:
    race = Race([(1.0, 1.5), (2.0, 2.5)], (0.5, 0.75), disturbance="fog")
    received = Race.from_json(_across_a_pipe(race.to_json()))
    assert received == race
    assert all(isinstance(series, tuple) for series in (*received.samples_us, received.copy_us))
