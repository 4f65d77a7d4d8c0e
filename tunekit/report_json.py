"""What `--json` prints: the same facts as the tables, as plain data for scripts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tunekit.core.device import Device
from tunekit.report import bandwidth_gb_per_s

if TYPE_CHECKING:
    from tunekit.evaluate.job import Outcome
    from tunekit.gpu import PresentGpu
    from tunekit.here import Here
    from tunekit.kernels.kernel import Kernel
    from tunekit.runtime.explanation import Explanation
    from tunekit.search.confirm import Confirmed
    from tunekit.search.replay import Replayed
    from tunekit.search.task import Result
    from tunekit.search.worth import Weighed
    from tunekit.store.cache import CacheRow


def result_to_json(result: Result) -> dict[str, Any]:
    """A problem's result for scripts; times in µs."""
    winner, decision = result.winner, result.decision
    return {
        "kernel": result.problem.kernel,
        "shape": list(result.shape),
        "dims": dict(result.problem.dims),
        "dtype": result.problem.dtype,
        "alignment": result.problem.alignment,
        "device": result.problem.device,
        "source": str(winner.source),
        "verified_by": str(winner.verified_by),
        "config": dict(winner.config),
        "time_us": winner.time_us,
        "default_config": None if result.default is None else dict(result.default.config),
        "default_time_us": None if result.default is None else result.default.time_us,
        "speedup_over_default": decision.speedup,
        "copy_us": decision.copy_us,
        "gb_per_s": bandwidth_gb_per_s(result.bytes_moved, winner.time_us or float("nan")),
        "reason": decision.reason,
        "evaluated": result.evaluated,
        "known_before": result.known,
        "same_binary": result.saved,
        "stopped": result.stopped,
        "disturbance": winner.disturbance,
        "space_size": result.space_size,
        "imported": None if result.imported is None else asdict(result.imported),
        "statuses": {str(status): count for status, count in result.statuses.items()},
        "elapsed_s": round(result.elapsed_s, 3),
    }


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """What became of a job for scripts; times in µs, an error that is not finite as `"inf"`."""
    data = outcome.to_json()
    if outcome.max_error is not None and not math.isfinite(outcome.max_error):
        data["max_error"] = "inf"
    return data


def confirmed_to_json(item: Confirmed) -> dict[str, Any]:
    """A confirmation for scripts; times in µs."""
    return result_to_json(item.result) | {
        "before": {
            "source": str(item.before.source),
            "config": dict(item.before.config),
            "time_us": item.before.time_us,
        },
        "measured": [
            {
                "config": dict(config),
                "expected_us": item.expected_us.get(config),
                "measured_us": measured_us,
            }
            for config, measured_us in item.measured_us.items()
        ],
    }


def replayed_to_json(replayed: Replayed) -> dict[str, Any]:
    """A replayed strategy for scripts; regrets as shares of the exhaustive best time."""
    from tunekit.search.replay import CHECKPOINTS

    stopped_after, stopped_regret = replayed.stopped()
    return {
        "strategy": replayed.strategy,
        "left_out": replayed.leave_out,
        "problems": len({run.landscape.problem for run in replayed.runs}),
        "runs": len(replayed.runs),
        "regret": {count: asdict(replayed.regret(count)) for count in CHECKPOINTS},
        "stopped": {"after": stopped_after, **asdict(stopped_regret)},
        "same_binary": replayed.saved,
    }


def row_to_json(row: CacheRow, here: Here | None = None) -> dict[str, Any]:
    """A cache row for scripts; times in µs.

    With `here` also what it was found under that is not what this machine has.
    """
    other = {} if here is None else {"found_under_other": here.other_versions(row)}
    return {
        "kernel": row.problem.kernel,
        "kernel_hash": row.problem.kernel_hash,
        "dims": dict(row.problem.dims),
        "shape": list(row.shape),
        "dtype": row.problem.dtype,
        "alignment": row.problem.alignment,
        "device": row.problem.device,
        "config": dict(row.config),
        "time_us": row.time_us,
        "speedup_over_default": row.speedup,
        "copy_us": row.copy_us,
        "source": str(row.source),
        "verified_by": str(row.verified_by),
        "gpu_name": row.provenance.gpu_name,
        "driver": row.provenance.driver,
        "torch": row.provenance.torch,
        "triton": row.provenance.triton,
        "protocol": row.provenance.protocol,
        "measured_at": row.provenance.created_at,
        "reason": row.reason,
        **other,
    }


def explanation_to_json(explained: Explanation) -> dict[str, Any]:
    """An explanation for scripts, with every row of the kernel; times in µs."""
    choice = explained.choice
    return {
        **asdict(choice.problem),
        "dims": dict(choice.problem.dims),
        "served": str(choice.served),
        "config": dict(choice.config),
        "why": explained.why,
        "notes": list(explained.notes),
        "databases": [
            {**asdict(database), "path": str(database.path)} for database in explained.databases
        ],
        "rows": [
            {
                "verdict": str(each.verdict),
                "why": each.why,
                "differs": [asdict(difference) for difference in each.differs],
                "foreign": [asdict(difference) for difference in each.foreign],
                "size_ratio": each.size_ratio,
                "place": each.place,
                "database": str(each.database.path),
                **row_to_json(each.row),
            }
            for each in explained.candidates
        ],
        "advice": explained.advice,
        "command": explained.command,
    }


def weighed_to_json(weighed: Weighed) -> dict[str, Any]:
    """A recorded problem for scripts; times in µs, `time_us` null where nothing is known of it."""
    recorded = weighed.recorded
    return {
        "reference": recorded.reference,
        "kernel": recorded.problem.kernel,
        "kernel_hash": recorded.problem.kernel_hash,
        "dims": dict(recorded.problem.dims),
        "shape": list(recorded.shape),
        "dtype": recorded.problem.dtype,
        "alignment": recorded.problem.alignment,
        "device": recorded.problem.device,
        "served": str(recorded.served),
        "served_now": str(weighed.served),
        "config": dict(recorded.config),
        "count": recorded.count,
        "bytes_moved": recorded.bytes_moved,
        "time_us": weighed.time_us,
        "timed": str(weighed.timed),
        "total_us": weighed.total_us,
        "share": weighed.share,
        "expected_gain": weighed.gain,
        "can_be_tuned": weighed.is_aligned,
        "tunekit": recorded.tunekit,
    }


def kernel_to_json(kernel: Kernel) -> dict[str, Any]:
    """A kernel for scripts."""
    return {
        "name": kernel.name,
        "summary": kernel.summary,
        "inputs": kernel.input_count,
        "scalars": dict(kernel.scalars),
        "space": kernel.space_name,
        "source_hash": kernel.source_hash,
    }


def devices_to_json(present: Sequence[PresentGpu], known: Iterable[Device]) -> dict[str, Any]:
    """Devices for scripts."""
    return {
        "present": [
            {"index": gpu.index, "name": gpu.name, "target": gpu.device.slug, "driver": gpu.driver}
            for gpu in present
        ],
        "known": [
            {
                "target": device.slug,
                "names": list(device.names),
                "sm_count": device.sm_count,
                "dram_bytes_per_s": device.dram_bytes_per_s,
                "source": device.source,
                **device.facts(),
            }
            for device in known
        ],
    }
