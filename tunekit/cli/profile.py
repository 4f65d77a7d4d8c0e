"""`tunekit profile`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunekit import arguments, hosts, report
from tunekit.cli.options import database_option, dim_option, json_option, not_nan
from tunekit.cli.output import print_json, say_error
from tunekit.errors import ProfileError, UnknownDeviceError, UsageError
from tunekit.paths import user_database
from tunekit.shapes import read_shape

if TYPE_CHECKING:
    from tunekit.core.device import Device
    from tunekit.kernels.kernel import Kernel
    from tunekit.profile.problem import Profile
    from tunekit.store.cache import CacheRow


@click.command()
@click.argument("kernel")
@click.option("--shape", help="Input shape: 64,128,254,254.")
@dim_option
@click.option("--dtype", help="[default: the kernel's first, float32]")
@click.option("--device", help="GPU to run on, such as cuda:0 [default: cuda:0].")
@click.option(
    "--set",
    "more",
    multiple=True,
    metavar="COUNTER",
    help="Full name of a further counter: sm__inst_executed_pipe_fma.sum. Repeatable.",
)
@click.option(
    "--ncu",
    "program",
    type=click.Path(path_type=Path),
    help="Nsight Compute's program [default: where it is usually installed].",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    callback=not_nan,
    default=300.0,
    show_default=True,
    help="Seconds until Nsight Compute is given up on.",
)
@database_option
@json_option
def profile(
    kernel: str,
    shape: str | None,
    dims: Sequence[str],
    dtype: str | None,
    device: str | None,
    more: Sequence[str],
    program: Path | None,
    timeout: float,
    database: Path | None,
    as_json: bool,
) -> None:
    """Read hardware counters of what is tuned for KERNEL, and of the default.

    Nsight Compute watches one launch of each, with a cold L2 cache. What it counts is stored
    beside the evaluations; `tunekit show --metrics` shows it.
    """
    from tunekit import report_counters
    from tunekit.gpu import gpu_count, present_gpu
    from tunekit.kernels.registry import find_kernel
    from tunekit.profile.find import find_ncu
    from tunekit.profile.problem import keep, profile_row
    from tunekit.profile.run import check_metrics
    from tunekit.store.database import Store

    wanted = check_metrics(more)
    if database is not None and not os.path.exists(database):
        raise UsageError(f"--db {database}: no such file")
    found = find_kernel(kernel)
    sizes, kind = read_shape(found, shape, dims), arguments.read_dtype(found, dtype)
    index = hosts.gpu_index(device)
    if not index < gpu_count():
        raise UnknownDeviceError(
            f"--device cuda:{index}: this machine has {gpu_count()} CUDA GPUs, and hardware "
            "counters are read on one"
        )
    gpu = present_gpu(index)
    row = _measured_row(found, kernel, sizes, kind, gpu.device, database)
    ncu = find_ncu(program)
    with ExitStack() as stack:
        store = stack.enter_context(Store.open(database or user_database()))
        stores = [store, *arguments.open_shipped(stack)]
        profiles = profile_row(row, found, kernel, stores, ncu, index, wanted, timeout)
        keep(profiles, store, ncu.tool)
    console = report.Console(quiet=as_json)
    title = f"{report.problem_text(row)} on {gpu.name}"
    if as_json:
        print_json(report_counters.profiles_to_json(profiles, ncu.tool, wanted, store.path))
    else:
        report_counters.print_profiles(console, profiles, title, ncu.tool, wanted)
        if any(each.same_binary for each in profiles):
            console.say(f"stored in {store.path}; `tunekit show --metrics` shows it again")
    _say_what_differs(profiles, row, kernel)


def _measured_row(
    found: Kernel,
    kernel: str,
    shape: Sequence[int],
    dtype: str,
    device: Device,
    database: Path | None,
) -> CacheRow:
    """What a call of that very problem is served, if it was measured.

    Raises:
        ProfileError: it was not.
    """
    from tunekit.profile.subjects import measured_row
    from tunekit.runtime.advice import command

    problem = found.problem_of(found.launch_for(shape, dtype, device), device)
    row = measured_row(problem, arguments.cached_rows(kernel, None, database))
    if row is not None:
        return row
    raise ProfileError(
        f"{found.name} {found.shape_text(shape)} {dtype} is not tuned on {device.slug}: run "
        f"`{command(found, shape, dtype)}` first"
    )


def _say_what_differs(profiles: Sequence[Profile], row: CacheRow, kernel: str) -> None:
    for each in profiles:
        if not each.same_binary:
            say_error(
                f"not stored: of the {each.role} another binary was compiled here than was "
                f"measured under Triton {row.provenance.triton}; `tunekit confirm {kernel}` "
                "measures it again"
            )
