"""The candidates of a problem."""

from __future__ import annotations

import pytest

from tunekit.candidates.fit import Fit, fit
from tunekit.candidates.listed import Contents, Listed, Near
from tunekit.candidates.problems import offer
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.errors import UsageError
from tunekit.kernels.library import KERNELS

KERNEL = KERNELS["mish_mish"]
VALUES = {"BLOCK_SIZE": 512, "VEC": 2, "num_warps": 4, "num_stages": 1}


def fitted(*values: dict[str, object], near: Near | None = None) -> Fit:
    listed = tuple(Listed(each, f"line {n}", "", near) for n, each in enumerate(values, 1))
    return fit(Contents("Python", listed), KERNEL.load_space(), {})


def test_candidates_say_where_they_are_from() -> None:
    found = offer(
        fitted(VALUES, VALUES | {"BLOCK_SIZE": 64}),
        KERNEL, (64, 64), "float16", DEVICES["h100"], file_name="my\tconfigs.py",
    )  # fmt: skip
    launch = KERNEL.launch_for((64, 64), "float16", DEVICES["h100"])
    assert found.problem == KERNEL.problem_of(launch, DEVICES["h100"])
    (candidate,) = found.candidates
    assert candidate.problem == found.problem
    assert candidate.config == Config(VALUES)
    assert candidate.origin == "my configs.py line 1"
    assert found.chosen.violated == {"every_thread_has_work": 1}


def test_a_size_is_one_of_the_kernel_s() -> None:
    device = DEVICES["h100"]
    table = fitted(VALUES, near=Near(size=4096))
    found = offer(table, KERNEL, (4096,), "float32", device, file_name="a.json", size_name="n")
    assert len(found.candidates) == 1
    with pytest.raises(UsageError, match="--size-name 'M': the sizes of mish_mish are n"):
        offer(table, KERNEL, (4096,), "float32", device, file_name="a.json", size_name="M")
