"""Tune a model's fused convolutions for the inputs it is given: kernels first, then formats."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn

from tunekit.core.config import FORMAT_AXIS, Config
from tunekit.core.evaluation import (
    Decision,
    Evaluation,
    Provenance,
    Source,
    Status,
    VerifiedBy,
)
from tunekit.core.problem import Problem
from tunekit.errors import NothingTunedError, UsageError
from tunekit.evaluate.host import Host
from tunekit.evaluate.measure import interleaved
from tunekit.evaluate.noise import Watch
from tunekit.evaluate.stream_timer import StreamTimer
from tunekit.evaluate.verify import TOLERANCES, describe_error, largest_error, reference_outputs
from tunekit.kernels.folded import folded
from tunekit.kernels.plan import TensorMeta
from tunekit.nn import formats
from tunekit.nn.conv import Fused
from tunekit.nn.uses import Use, formats_of, kernels_of, uses_of
from tunekit.paths import shipped_landscapes, user_database
from tunekit.runtime.advice import reference_of
from tunekit.runtime.call import EAGER, reload
from tunekit.runtime.channels import to_format, with_bias
from tunekit.search.decide import Finalist, decide
from tunekit.search.knowledge import Knowledge
from tunekit.search.task import Progress, Result, Task
from tunekit.search.tune import tune as tune_kernel
from tunekit.store.database import Store

PROTOCOL = "module-stream-1"
"""How a whole module is timed: results of different protocols are not compared."""

_ROUNDS = 25


@dataclass(frozen=True, slots=True)
class TunedModule:
    """What was found for one fused convolution at one size.

    Attributes:
        name: of the module in the model; the first of several alike.
        channels_last: whether it will run so; `stays_last` is whether PyTorch would.
        times_us: of the whole module, by whether it runs channels-last.
        reason: why that one, in words.
        kernels: how tuning its kernels ended; empty where all were tuned before.
    """

    name: str
    problem: Problem
    channels_last: bool
    stays_last: bool
    times_us: Mapping[bool, float]
    reason: str
    kernels: tuple[Result, ...]

    def __str__(self) -> str:
        """One line."""
        times = ", ".join(
            f"{'channels-last' if last else 'contiguous'} {time_us:.1f} µs"
            for last, time_us in sorted(self.times_us.items())
        )
        chosen = "channels-last" if self.channels_last else "contiguous"
        return f"{self.name}: {chosen} ({times}); {self.reason}"


def tune(
    model: nn.Module,
    *inputs: Any,
    database: str | Path | None = None,
    trials: int = 60,
    say: Callable[[str], None] = lambda text: None,
    **more: Any,
) -> list[TunedModule]:
    """Tune every fused convolution of a model for the sizes that these inputs lead to.

    For each: the kernels that follow the convolution in either memory format are tuned as by
    `tunekit tune`, then the whole module is measured contiguous and channels-last, in turn, and the
    faster format is stored. What is known already is not measured again, but the formats are.

    Args:
        model: on a GPU, holding modules that `tunekit.nn.fuse` or `fused_conv` made.
        inputs: what it is called with.
        database: file that takes the results; by default the person's own, which calls read.
        trials: configurations of a kernel to evaluate at most.
        say: told what is going on, a line at a time.
        more: keyword arguments the model is called with.

    Returns:
        What was found, in the order in which the model calls the modules.

    Raises:
        UsageError: the model is not on a GPU, or calls no fused convolution.
        TunekitError: see `tunekit tune`.
    """
    if EAGER:
        raise UsageError("TUNEKIT_EAGER is set: no kernel runs in this process, so none is tuned")
    if not any(isinstance(module, Fused) for module in model.modules()):
        raise UsageError("the model has no fused convolution: make them by tunekit.nn.fuse(model)")
    uses = uses_of(model, inputs, more)
    if not uses:
        raise UsageError(
            "the model calls no fused convolution on a GPU with float32, float16 or bfloat16: move "
            "it and its inputs there, as by model.cuda()"
        )
    device = uses[0].module.weight.device
    found: list[TunedModule] = []
    path = Path(database) if database is not None else user_database()
    with Host.on_gpu(device.index or 0) as host, Store.open(path) as store:
        knowledge = Knowledge(shipped_landscapes(), [store])
        for use in uses:
            results = _tune_kernels(use, host, store, knowledge, trials, say)
            reload()
            found.append(_tune_format(use, device, host, store, results))
            say(str(found[-1]))
    reload()
    return found


def _tune_kernels(
    use: Use,
    host: Host,
    store: Store,
    knowledge: Knowledge,
    trials: int,
    say: Callable[[str], None],
) -> tuple[Result, ...]:
    torch.cuda.empty_cache()  # the worker needs the memory
    results = []
    for kernel, shape in kernels_of(use):
        dtype = str(use.dtype).removeprefix("torch.")
        scalars = {
            name: use.module.scalars.get(name, value) for name, value in kernel.scalars.items()
        }
        problem = kernel.problem_of(kernel.launch_for(shape, dtype, host.device), host.device)
        if _is_measured(problem, store):
            continue
        say(f"{use.name}: tuning {kernel.name} at {','.join(map(str, shape))} {dtype}")
        task = Task(kernel, reference_of(kernel), shape, dtype, scalars, trials=trials)
        results.append(tune_kernel(task, host, store, Progress(), knowledge=knowledge))
    return tuple(results)


def _is_measured(problem: Problem, store: Store) -> bool:
    rows = store.cache(problem.kernel, problem.device)
    return any(row.problem == problem and row.source is Source.MEASURED for row in rows)


@torch.no_grad()
def _tune_format(
    use: Use, device: torch.device, host: Host, store: Store, kernels: tuple[Result, ...]
) -> TunedModule:
    module = use.module
    x = use.input(device)
    problem = formats.problem_of(module, x)
    stays = formats.stays_last(module, x)
    provenance = replace(host.provenance(_now()), protocol=PROTOCOL)
    candidates = formats_of(use)
    errors = {last: fused_error(module, x, last) for last in candidates}
    right = [last for last in candidates if errors[last] <= 1.0]
    runs = [StreamTimer(partial(module.in_format, x, last, stays)) for last in right]
    samples, disturbance = interleaved(runs, _ROUNDS, Watch(device.index or 0), shuffle=Random(0))
    series = dict(zip(right, samples, strict=True))
    rows = {
        last: _evaluation(
            problem, use, last, provenance, errors[last], series.get(last), disturbance
        )
        for last in candidates
    }
    store.add(rows.values())
    if not right:
        raise NothingTunedError(f"{use.name}: {rows[stays].reason}; nothing is cached")
    finalists = [Finalist(rows[last].config, series[last]) for last in right]
    verdict = decide(finalists, rows[stays].config if stays in rows else formats.CONTIGUOUS)
    winner = rows[right[verdict.winner]]
    default = None if verdict.default is None else rows[right[verdict.default]]
    store.decide(
        Decision(
            problem=problem,
            source=Source.MEASURED,
            winner=winner.uid,
            default="" if default is None else default.uid,
            reason=verdict.reason,
            created_at=provenance.created_at,
            rows=tuple(rows[last].uid for last in right),
            speedup=verdict.speedup,
        )
    )
    return TunedModule(
        name=use.name,
        problem=problem,
        channels_last=bool(winner.config[FORMAT_AXIS]),
        stays_last=stays,
        times_us={last: rows[last].time_us or 0.0 for last in right},
        reason=verdict.reason,
        kernels=kernels,
    )


@torch.no_grad()
def fused_error(module: Fused, x: torch.Tensor, channels_last: bool) -> float:
    """Largest error of what follows the convolution, in units of what is allowed.

    The convolution is PyTorch's own; the op is compared with its reference in float64 on the very
    values that the convolution gave.
    """
    y = module._bare(to_format(x, channels_last), None, channels_last=channels_last)
    stays = formats.stays_last(module, x)
    result = with_bias(module.kernel, y, module.bias, module.scalars, channels_last=stays)
    inputs = (y,) if module.bias is None else (y, module.bias)
    kernel = folded(module.kernel, bias=module.bias is not None)
    meta = TensorMeta.of(result)
    (expected,) = reference_outputs(kernel, [meta], inputs, module.scalars)
    return largest_error(result, expected, TOLERANCES[meta.dtype])


def _evaluation(
    problem: Problem,
    use: Use,
    last: bool,
    provenance: Provenance,
    error: float,
    samples_us: tuple[float, ...] | None,
    disturbance: str,
) -> Evaluation:
    return Evaluation(
        problem=problem,
        shape=use.shape,
        config=Config({FORMAT_AXIS: int(last)}),
        status=Status.OK if samples_us else Status.WRONG,
        source=Source.MEASURED,
        provenance=provenance,
        reason="" if samples_us else describe_error(error, "after the convolution"),
        verified_by=VerifiedBy.DEVICE if samples_us else None,
        time_us=float(statistics.median(samples_us)) if samples_us else None,
        samples_us=samples_us or (),
        max_error=error,
        disturbance=disturbance if samples_us else "",
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
