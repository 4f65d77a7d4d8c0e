"""Whether kernels can be compiled, and evaluated in a worker."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from tunekit.core.evaluation import Status
from tunekit.doctor.check import Check, ok, problem
from tunekit.doctor.probe import ProbeFailed, ask
from tunekit.errors import TunekitError

_SIZE = 4096


def check_compiler(target: str, config: dict[str, int]) -> Iterator[Check]:
    """Compile a small kernel for a GPU model, in a process that may crash or hang.

    Args:
        target: the GPU model.
        config: is filled with the configuration of the kernel.
    """
    try:
        found = ask("compile", target)
    except ProbeFailed as failure:
        yield problem(
            "compiler",
            f"a small kernel does not compile for {target}: {failure}",
            "install Triton again; if it names ptxas, see that TRITON_PTXAS_PATH is right or unset",
        )
        return
    config.update(found["config"])
    yield ok(
        "compiler",
        f"compiles for {target} in {found['seconds']:.1f} s; ptxas: {found['ptxas']}",
    )


def check_worker(index: int | None, target: str, config: Mapping[str, int]) -> Iterator[Check]:
    """Start the process that evaluates, and let it evaluate a copy of 4096 numbers.

    Args:
        index: of the CUDA GPU to measure on; None estimates.
        target: the GPU model.
        config: to evaluate.
    """
    from tunekit.core.config import Config
    from tunekit.evaluate.estimate_pool import EstimatePool
    from tunekit.evaluate.job import Job
    from tunekit.evaluate.pool import Worker

    how = "estimates" if index is None else f"measures on cuda:{index}"
    pool = EstimatePool(target) if index is None else Worker(f"device:{index}", target)
    started: dict[str, float] = {}
    pool.on_ready = started.__setitem__
    job = Job("identity", (_SIZE,), "float32", {}, Config(config), target)
    began = time.monotonic()
    try:
        ((_, outcome),) = pool.evaluate([job])
    except TunekitError as error:
        yield problem("worker", str(error), "see what it says above; `--verbose` of tune says more")
        return
    finally:
        pool.close()
    took = f"{time.monotonic() - began:.1f} s in all, {max(started.values(), default=0):.1f} s of "
    if outcome.status is Status.OK:
        yield ok("worker", f"starts and {how}: {took}it importing")
    else:
        yield problem(
            "worker",
            f"starts and fails: {outcome.status}: {' '.join(outcome.reason.split())[:300]}",
            "the same will happen to every configuration: mend that first",
        )
