"""More than a GPU has, or a compiler is up to: found by compiling alone, and told apart."""

from __future__ import annotations

import re
from collections.abc import Callable

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.evaluate.compilers import Compilers
from tunekit.evaluate.job import Job

GOOD = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)

TOO_MUCH = {
    "too much shared memory": (
        Config(BLOCK_SIZE=16384, VEC=4, num_warps=16, num_stages=4),
        "rejected",
        "shared memory: a block needs 196608 bytes and rtx4090 has 101376",
    ),
    "too many threads": (
        Config(BLOCK_SIZE=2048, VEC=4, num_warps=64, num_stages=1),
        "rejected",
        "threads: a block has 2048 and rtx4090 allows 1024",
    ),
    "a block that is no power of two": (
        Config(BLOCK_SIZE=1000, VEC=4, num_warps=4, num_stages=1),
        "compile_error",
        ".*range must be a power of 2",
    ),
    "a block of too many elements": (
        Config(BLOCK_SIZE=2**21, VEC=4, num_warps=4, num_stages=1),
        "compile_error",
        r".*numel \(2097152\) exceeds triton maximum tensor numel \(1048576\)",
    ),
    # Ptxas is at 1024 values a thread for minutes: the compiler hangs without anybody's fault.
    "far too many registers": (
        Config(BLOCK_SIZE=2**17, VEC=4, num_warps=4, num_stages=1),
        "timeout",
        "compiling took longer than 2 s: killed",
    ),
}


def test_each_has_its_own_reason_and_the_others_go_on(
    tally: Callable[[str, str, int], None],
) -> None:
    configs = [config for config, _, _ in TOO_MUCH.values()]
    configs = [GOOD, *configs, Config(GOOD, num_warps=8)]
    jobs = [
        Job(
            "mish_mish", (2**24,), "float32", {}, config, "rtx4090",
            compile_deadline_s=2.0 if config["BLOCK_SIZE"] == 2**17 else 60.0,
        )
        for config in configs
    ]  # fmt: skip
    compilers = Compilers(DEVICES["rtx4090"], processes=2)
    found = dict(compilers.outcomes(jobs))
    compilers.close()
    first, *others, last = [found[index] for index in range(len(jobs))]
    assert (first.status, last.status) == ("ok", "ok")
    for (name, (_, status, reason)), outcome in zip(TOO_MUCH.items(), others, strict=True):
        assert outcome.status == status, (name, outcome)
        assert re.fullmatch(reason, outcome.reason), (name, outcome)
        tally("Faults", name, 1)
