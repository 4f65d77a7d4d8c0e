"""A compiled kernel as the rules see it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.evaluation import Binary
from tunekit.evaluate.compile import Compiled
from tunekit.evaluate.limits import resident_blocks
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Input, Launch
from tunekit.kernels.stand_ins import stand_in
from tunekit.rules.memory import Memory, read_arguments
from tunekit.rules.sample import Sample, sample
from tunekit.rules.survey import Reach, Survey, survey
from tunekit.rules.ttir import Function, Op, parse_ttir
from tunekit.rules.values import Known
from tunekit.rules.widths import Widths, read_widths


@dataclass(frozen=True)
class Subject:
    """One configuration of one launch, compiled for one GPU, with its programs followed.

    Attributes:
        resident: programs that the GPU holds at the same time, at most.
        function: its TTIR.
        arguments: what each of its parameters is.
        memories: the tensors they point to, by number of the parameter.
        survey: every program, block by block.
        sample: some programs, or all, lane by lane.
        widths: of the global accesses in PTX.
    """

    kernel: Kernel
    launch: Launch
    config: Config
    device: Device
    binary: Binary
    ptx: str
    num_warps: int
    resident: int
    grid: tuple[int, int, int]
    function: Function
    arguments: Sequence[Known]
    memories: Mapping[int, Memory]
    survey: Survey
    sample: Sample
    widths: Widths

    @classmethod
    def of(
        cls,
        kernel: Kernel,
        launch: Launch,
        config: Config,
        device: Device,
        compiled: Compiled,
        scalars: Mapping[str, float],
    ) -> Subject:
        """Read what was compiled, and follow its programs.

        Raises:
            UnreadableError: the compiler's output is not as it is known here.
        """
        function = parse_ttir(compiled.kernel.asm["ttir"])
        bound = launch.bind(
            [stand_in(meta) for meta in launch.inputs],
            [stand_in(meta) for meta in launch.outputs],
            scalars,
            config,
        )
        signature: Mapping[str, Any] = compiled.kernel.src.signature
        arguments, memories = read_arguments(function, signature, launch, bound)
        grid = launch.grid(config)
        found = survey(function, arguments, memories, grid)
        num_warps = int(compiled.kernel.metadata.num_warps)
        resident = device.sm_count * max(resident_blocks(compiled.binary, num_warps, device), 1)
        return cls(
            kernel=kernel,
            launch=launch,
            config=config,
            device=device,
            binary=compiled.binary,
            ptx=compiled.kernel.asm["ptx"],
            num_warps=num_warps,
            resident=resident,
            grid=grid,
            function=function,
            arguments=arguments,
            memories=memories,
            survey=found,
            sample=sample(function, arguments, grid, found, resident),
            widths=read_widths(compiled.kernel.asm["ptx"]),
        )

    @property
    def programs(self) -> int:
        """Of the launch."""
        return math.prod(self.grid)

    @property
    def threads(self) -> int:
        """Of a program."""
        return self.num_warps * self.device.warp_size

    @property
    def doubts(self) -> list[str]:
        """What could not be followed."""
        found = [*self.survey.doubts]
        found += [each for each in self.sample.trace.doubts if each not in found]
        return found

    def followed(self) -> str:
        """How much of the launch was followed lane by lane."""
        if self.sample.is_all:
            return "all programs" if self.programs > 1 else "the one program"
        return f"{len(set(self.sample.numbers))} of {self.programs} programs"

    def reaches(self, *kinds: str) -> list[Reach]:
        """Accesses of those kinds, in the order first executed."""
        return [each for each in self.survey.reaches.values() if each.kind in kinds]

    def unknown(self, *kinds: str) -> list[Reach]:
        """Accesses of those kinds with an address that is not known."""
        return [each for each in self.reaches(*kinds) if each.why]

    def main(self, *kinds: str) -> list[Reach]:
        """Accesses that move a good part of the bytes; not those of the odd last block."""
        reaches = self.reaches("load", "store", "atomic")
        most = max((each.bytes for each in reaches), default=0)
        return [each for each in reaches if each.kind in kinds and 10 * each.bytes >= most > 0]

    def ops(self, *names: str) -> list[Op]:
        """Operations of those names, wherever they are."""
        return [op for op in self.function.ops() if op.name in names]

    def parameters_of(self, index: int) -> list[int]:
        """Parameters by which input `index` is read: its own, and outputs that begin as it."""
        return [
            number
            for number, memory in self.memories.items()
            if Input(index) in (memory.slot, memory.start)
        ]
