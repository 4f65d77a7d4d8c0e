"""`tunekit check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tunekit import hosts, report
from tunekit.arguments import read_dtype, read_scalars
from tunekit.cli.options import dim_option, json_option
from tunekit.cli.output import print_json
from tunekit.errors import TunekitError, UsageError
from tunekit.shapes import read_shape

if TYPE_CHECKING:
    from tunekit.core.config import Config
    from tunekit.kernels.kernel import Kernel

_LARGEST = 2**31


@click.command()
@click.argument("kernel")
@click.option("--shape", help="Input shape: 64,128,254,254.")
@dim_option
@click.option("--dtype", help="[default: the kernel's first, float32]")
@click.option("--param", "params", multiple=True, help="A scalar's value: scale=2.0. Repeatable.")
@click.option(
    "--config",
    "given",
    metavar="AXIS=N,…",
    help="Configuration: BLOCK_SIZE=1024,num_warps=4; axes left out are as a call would be served "
    "[default: what a call would be served].",
)
@click.option("--target", help="GPU model to compile for, such as rtx4090.")
@click.option("--device", help="GPU to compile for [default: cuda:0 if there is one].")
@click.option("--strict", is_flag=True, help="End with status 1 if a rule is broken.")
@json_option
def check(
    kernel: str,
    shape: str | None,
    dims: Sequence[str],
    dtype: str | None,
    params: Sequence[str],
    given: str | None,
    target: str | None,
    device: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Hold the compiled KERNEL against the rules of fusion.

    It is compiled, never run: no GPU is needed. What is read is the compiler's output, not the
    source; what that does not decide is said to be undecided.
    """
    from tunekit import report_check
    from tunekit.evaluate.compile import compile_for
    from tunekit.kernels.registry import find_kernel
    from tunekit.rules.check import check as check_kernel
    from tunekit.rules.check import to_json
    from tunekit.rules.finding import Verdict
    from tunekit.runtime.lookup import choose

    found = find_kernel(kernel)
    sizes, kind = read_shape(found, shape, dims), read_dtype(found, dtype)
    scalars = read_scalars(found, params)
    model = hosts.device_model(device, target)
    compile_for(model)
    launch = found.launch_for(sizes, kind, model)
    choice = choose(found, launch, model)
    config = choice.config if given is None else _read_config(found, given, choice.config)
    whose = "given by --config" if given is not None else f"what a call is served: {choice.served}"
    checked = check_kernel(found, launch, config, model, scalars)
    if as_json:
        about = {"shape": list(sizes), "dtype": kind, "config_from": whose}
        print_json(about | to_json(checked))
    else:
        report_check.print_checked(report.Console(), checked, sizes, kind, whose)
    broken = checked.of(Verdict.BROKEN)
    if strict and broken:
        names = ", ".join(each.rule for each in broken)
        raise TunekitError(f"{found.name} breaks {len(broken)} of the rules: {names}")


def _read_config(kernel: Kernel, text: str, served: Config) -> Config:
    """A configuration as a person writes it.

    Raises:
        UsageError: an axis is not the space's, or a value is no positive integer.
    """
    from tunekit.core.config import Config

    axes = kernel.load_space().axis_names
    values: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = (each.strip() for each in part.partition("="))
        if name not in axes:
            raise UsageError(
                f"--config {part.strip()!r:.100}: {kernel.name} has the axes {', '.join(axes)}"
            )
        if not number.isdecimal() or len(number) > 10 or not 0 < int(number) < _LARGEST:
            raise UsageError(
                f"--config {part.strip()!r:.100}: expected AXIS=N, such as {name}={served[name]}"
            )
        values[name] = int(number)
    return Config(served, **values)
