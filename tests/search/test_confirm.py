"""Measuring what was estimated elsewhere, or measured under other versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tunekit.core.config import Config
from tunekit.core.evaluation import Source, Status
from tunekit.errors import NothingTunedError
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Outcome
from tunekit.kernels.library import KERNELS
from tunekit.search.confirm import MOST_CONFIRMED, Confirmed, Pending, confirm, pending
from tunekit.search.task import Progress, Task
from tunekit.search.tune import tune
from tunekit.store.database import Store

MakeHost = Callable[..., Host]

KERNEL = KERNELS["mish_mish"]
DEFAULT = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)


def estimate_us(config: Config) -> float:
    """The larger the block, the faster, the model says."""
    return 8.0 - config["BLOCK_SIZE"] / 8192 + _little(config)


def measured_us(config: Config) -> float:
    """The other way round, the GPU says."""
    return 8.0 + config["BLOCK_SIZE"] / 8192 + _little(config)


def _little(config: Config) -> float:
    """So that no two are equal."""
    return config["num_warps"] / 1e3 + config["VEC"] / 1e4 + config["num_stages"] / 1e5


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "mine.db") as store:
        yield store


@pytest.fixture
def shipped(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "shipped.db") as store:
        yield store


def tuned(host: Host, store: Store, n: int = 2**20, trials: int | None = 12) -> None:
    task = Task(KERNEL, KERNEL.name, (n,), "float32", {}, trials)
    tune(task, host, store, Progress(), write_study=False)


def confirmed(item: Pending, host: Host, store: Store) -> Confirmed:
    return confirm(item, KERNEL, "mish_mish", host, store, Progress())


def sizes(items: list[Pending]) -> list[int]:
    return [dict(item.row.problem.dims)["n"] for item in items]


def test_an_estimate_is_pending_until_it_is_measured(
    estimate_host: MakeHost, gpu_host: MakeHost, mine: Store
) -> None:
    tuned(estimate_host(estimate_us), mine)
    host = gpu_host(measured_us)
    (item,) = pending([mine], host)
    assert item.row.source is Source.ESTIMATED
    before = item.row.config
    result = confirmed(item, host, mine).result

    (row,) = mine.cache()
    assert row.source is Source.MEASURED
    assert (row.winner, row.config) == (result.winner.uid, result.winner.config)
    assert row.config == DEFAULT != before  # nothing beat it when it was measured
    assert row.copy_us is not None
    assert pending([mine], host) == []


def test_the_top_few_and_the_default_are_measured(
    estimate_host: MakeHost, gpu_host: MakeHost, mine: Store
) -> None:
    tuned(estimate_host(estimate_us), mine, trials=30)
    (item,) = pending([mine], gpu_host(measured_us))
    rows = {row.config: row.time_us for row in mine.evaluations()}
    best = sorted(rows, key=rows.__getitem__)
    assert next(iter(item.candidates)) == item.row.config == best[0]
    assert dict(item.candidates) == {config: rows[config] for config in best[:6]}

    host = gpu_host(measured_us)
    shown = confirmed(item, host, mine)
    assert MOST_CONFIRMED == 5
    assert host.pool.configs == [*best[:5], DEFAULT]
    assert dict(shown.measured_us) == {config: measured_us(config) for config in host.pool.configs}
    assert shown.expected_us == item.candidates
    assert shown.before == item.row


def test_a_default_among_the_top_few_is_measured_once(
    estimate_host: MakeHost, gpu_host: MakeHost, mine: Store
) -> None:
    tuned(estimate_host(lambda config: 1.0 if config == DEFAULT else estimate_us(config)), mine)
    host = gpu_host(measured_us)
    (item,) = pending([mine], host)
    confirmed(item, host, mine)
    assert len(host.pool.configs) == 5
    assert host.pool.configs.count(DEFAULT) == 1


def test_what_was_measured_under_another_version_is_pending(
    gpu_host: MakeHost, mine: Store
) -> None:
    tuned(gpu_host(measured_us), mine, n=2**20)
    tuned(gpu_host(measured_us, driver="570.1"), mine, n=2**21)
    assert sizes(pending([mine], gpu_host(measured_us))) == [2**21]
    assert sizes(pending([mine], gpu_host(measured_us, driver="570.1"))) == [2**20]
    assert sizes(pending([mine], gpu_host(measured_us, driver="590.1"))) == [2**20, 2**21]


def test_what_is_measured_anew_is_served_from_then_on(gpu_host: MakeHost, mine: Store) -> None:
    tuned(gpu_host(measured_us, driver="570.1"), mine)
    host = gpu_host(measured_us)
    (item,) = pending([mine], host)
    confirmed(item, host, mine)
    (row,) = mine.cache()
    assert row.provenance.driver == "580.1"
    assert pending([mine], host) == []


def test_other_gpus_are_left_alone(
    estimate_host: MakeHost, gpu_host: MakeHost, mine: Store
) -> None:
    tuned(estimate_host(estimate_us), mine)
    host = gpu_host(measured_us)
    host.device = replace(host.device, slug="h200")
    assert pending([mine], host) == []


def test_one_kernel_only(estimate_host: MakeHost, gpu_host: MakeHost, mine: Store) -> None:
    tuned(estimate_host(estimate_us), mine)
    host = gpu_host(measured_us)
    assert pending([mine], host, "identity") == []
    assert len(pending([mine], host, "mish_mish")) == 1


def test_both_databases_are_looked_through(
    estimate_host: MakeHost, gpu_host: MakeHost, mine: Store, shipped: Store
) -> None:
    now, earlier = gpu_host(measured_us), gpu_host(measured_us, driver="570.1")
    tuned(estimate_host(estimate_us), mine, n=2**20)
    tuned(earlier, shipped, n=2**20)  # outranks the estimate
    tuned(estimate_host(estimate_us), mine, n=2**21)
    tuned(now, shipped, n=2**21)  # outranks the estimate and needs nothing
    tuned(now, mine, n=2**22)
    tuned(earlier, shipped, n=2**22)  # is outranked by what is measured already
    tuned(estimate_host(estimate_us), shipped, n=2**23)
    items = pending([mine, shipped], now)
    assert sizes(items) == [2**20, 2**23]
    assert [item.row.source for item in items] == [Source.MEASURED, Source.ESTIMATED]


def test_what_shipped_is_confirmed_into_one_s_own_database(
    estimate_host: MakeHost, gpu_host: MakeHost, mine: Store, shipped: Store
) -> None:
    tuned(estimate_host(estimate_us), shipped)
    host = gpu_host(measured_us)
    (item,) = pending([mine, shipped], host)
    confirmed(item, host, mine)
    assert [row.source for row in mine.cache()] == [Source.MEASURED]
    assert [row.source for row in shipped.cache()] == [Source.ESTIMATED]
    assert pending([mine, shipped], host) == []


def test_a_worker_finds_a_kernel_of_one_s_own(
    estimate_host: MakeHost, gpu_host: MakeHost, mine: Store
) -> None:
    tuned(estimate_host(estimate_us), mine)
    host = gpu_host(measured_us)
    (item,) = pending([mine], host)
    confirm(item, KERNEL, "my/file.py:mish", host, mine, Progress())
    assert {job.kernel for job in host.pool.jobs} == {"my/file.py:mish"}


def test_what_fails_here_leaves_the_estimate(
    estimate_host: MakeHost, gpu_host: MakeHost, mine: Store
) -> None:
    tuned(estimate_host(estimate_us), mine)
    host = gpu_host(lambda config: Outcome(Status.WRONG, reason="differs", max_error=3.0))
    (item,) = pending([mine], host)
    with pytest.raises(NothingTunedError, match="none of 6"):
        confirmed(item, host, mine)
    (row,) = mine.cache()
    assert row.source is Source.ESTIMATED
    assert [item.row for item in pending([mine], host)] == [row]
