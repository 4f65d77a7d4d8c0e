"""Hold a compiled kernel against every rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.errors import KernelError, TunekitError
from tunekit.evaluate.compile import compile_launch
from tunekit.evaluate.text import one_line
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch
from tunekit.rules.arithmetic import check_arithmetic, check_both_sides
from tunekit.rules.bounds import check_coverage, check_masks
from tunekit.rules.dependence import check_addresses, check_atomics, check_store_then_load
from tunekit.rules.finding import Finding, Verdict
from tunekit.rules.grid import check_blocks, check_grid
from tunekit.rules.machine import check_occupancy, check_shared_memory, check_spills
from tunekit.rules.subject import Subject
from tunekit.rules.traffic import check_bytes, check_runs, check_width
from tunekit.rules.transfers import check_loads, check_stores
from tunekit.rules.ttir import UnreadableError

Rule = Callable[[Subject], Finding]

RULES: Mapping[str, Rule] = {
    "loads": check_loads,
    "stores": check_stores,
    "store-then-load": check_store_then_load,
    "masks": check_masks,
    "coverage": check_coverage,
    "addresses": check_addresses,
    "atomics": check_atomics,
    "width": check_width,
    "runs": check_runs,
    "bytes": check_bytes,
    "grid": check_grid,
    "blocks": check_blocks,
    "both sides": check_both_sides,
    "arithmetic": check_arithmetic,
    "spills": check_spills,
    "shared memory": check_shared_memory,
    "occupancy": check_occupancy,
}
"""Every rule, in the order told."""

UNSEEN = (
    "whether it computes the right thing: `tunekit tune` compares results with the reference",
    "what runs before and after it, such as a convolution that adds its bias in a pass of its own",
    "whether autograd can follow it",
)
"""What no compiled kernel shows."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One configuration of a kernel, held against the rules.

    Attributes:
        followed: how much of the launch was followed lane by lane, in words.
    """

    kernel: Kernel
    launch: Launch
    config: Config
    device: Device
    findings: tuple[Finding, ...]
    followed: str

    def of(self, verdict: Verdict) -> list[Finding]:
        """The findings with that verdict."""
        return [each for each in self.findings if each.verdict is verdict]


def check(
    kernel: Kernel,
    launch: Launch,
    config: Config,
    device: Device,
    scalars: Mapping[str, float] | None = None,
) -> Checked:
    """Compile a configuration for a GPU model and hold it against the rules.

    Triton has to compile for that model (`tunekit.evaluate.compile.compile_for`).

    Args:
        kernel: whose plan made the launch.
        launch: of the sizes that are checked.
        config: the configuration.
        device: the GPU's facts.
        scalars: run-time scalars; none are the kernel's own.

    Raises:
        KernelError: it does not compile, or what the compiler wrote cannot be read.
    """
    values = kernel.scalar_values(scalars)
    try:
        compiled = compile_launch(launch, config, values)
    except TunekitError:
        raise
    except Exception as error:
        raise KernelError(
            f"{kernel.name} with {config} does not compile for {device.slug}: {one_line(error)}"
        ) from error
    try:
        subject = Subject.of(kernel, launch, config, device, compiled, values)
    except (UnreadableError, ValueError, LookupError) as error:
        raise KernelError(
            f"{kernel.name}: {error}; this Triton may be too new for `check`"
        ) from error
    findings = tuple(rule(subject) for rule in RULES.values())
    return Checked(kernel, launch, config, device, findings, subject.followed())


def to_json(checked: Checked) -> dict[str, Any]:
    """As JSON-able values."""
    return {
        "kernel": checked.kernel.name,
        "device": checked.device.slug,
        "dims": dict(checked.launch.dims),
        "config": dict(checked.config.items()),
        "grid": list(checked.launch.grid(checked.config)),
        "followed": checked.followed,
        "broken": len(checked.of(Verdict.BROKEN)),
        "undecided": len(checked.of(Verdict.UNDECIDED)),
        "findings": [each.to_json() for each in checked.findings],
        "cannot_see": list(UNSEEN),
    }
