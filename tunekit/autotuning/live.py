"""Verify and measure configurations on copies of a call's arguments, in this process."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
from triton.runtime.errors import OutOfResources

from tunekit.autotuning.comparing import Expected
from tunekit.autotuning.compiling import compile_all
from tunekit.autotuning.copies import Arguments, memory_of
from tunekit.autotuning.rotating import Sets, sets_of
from tunekit.autotuning.timing import Racing, Timing
from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.evaluation import Status, VerifiedBy
from tunekit.errors import DeviceMemoryError, NothingTunedError, TunekitError
from tunekit.evaluate.job import Outcome
from tunekit.evaluate.limits import unfit_reason
from tunekit.evaluate.text import full_text, one_line
from tunekit.evaluate.trial import NO_REFERENCE

Hook = Callable[..., object]


class GpuLostError(TunekitError):
    """A configuration broke the GPU's context: this process cannot use the GPU any more.

    Attributes:
        config: which one.
    """

    def __init__(self, message: str, config: Config) -> None:
        super().__init__(message)
        self.config = config


@dataclass(frozen=True)
class Decorated:
    """What was decorated, and what the decorator was told of it.

    Attributes:
        name: `module:function`.
        function: beneath the decorator; `run` launches it.
        arg_names: its parameters, in order.
        pre_hook, post_hook: called around each launch that is evaluated; None if not given.
        reset_to_zero: arguments that are zero before each launch.
        restore_value: arguments that hold the caller's values before each launch.
        buffers: arguments whose contents are no result: they are not compared.
    """

    name: str
    function: Any
    arg_names: tuple[str, ...]
    pre_hook: Hook | None = None
    post_hook: Hook | None = None
    reset_to_zero: tuple[str, ...] = ()
    restore_value: tuple[str, ...] = ()
    buffers: frozenset[str] = frozenset()

    @property
    def hooked(self) -> bool:
        """Whether the person's own hooks say how a launch begins."""
        return self.pre_hook is not None or self.post_hook is not None

    def launch(self, given: triton.Config, own: Arguments) -> None:
        """Launch a configuration, with all hooks."""
        options = given.all_kwargs()
        named = {**own.named(self.arg_names), **options}
        if given.pre_hook is not None:
            given.pre_hook(named)
        if self.pre_hook is not None:
            self.pre_hook(named)
        try:
            self.function.run(*own.args, **own.kwargs, **options)
        except Exception as failure:
            if self.post_hook is not None:
                self.post_hook(named, exception=failure)
            raise
        if self.post_hook is not None:
            self.post_hook(named, exception=None)

    def start(self, own: Arguments, written: Iterable[int] | None) -> None:
        """Let the arguments hold what they have to before a launch."""
        own.restore(written)
        named = own.named(self.arg_names)
        for name in self.reset_to_zero:
            named[name].zero_()


class Live:
    """The configurations of one problem, on copies of a call's arguments.

    Args:
        decorated: the kernel.
        args: of the call; they are read, never written.
        kwargs: of the call, `grid` and `warmup` among them.
        configs: in order of preference; the first that can be launched is what the others are
            compared with.
        device: the current GPU.
        timing: takes the times.

    Attributes:
        reference: that first one, once it is prepared.

    Raises:
        DeviceMemoryError: a copy of the tensors does not fit.
        NothingTunedError: they cannot be copied.
    """

    reference: Config

    def __init__(
        self,
        decorated: Decorated,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        configs: Mapping[Config, triton.Config],
        device: Device,
        timing: Timing,
    ) -> None:
        self._decorated, self._configs = decorated, configs
        self._device, self._timing = device, timing
        self._failed: dict[Config, Outcome] = {}
        with self._fitting(args, kwargs):
            try:
                self._own = Arguments.like(args, kwargs, guarded=True)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as failure:  # no memory of its own to copy
                raise NothingTunedError(
                    f"{decorated.name}: its tensors cannot be copied: {one_line(failure)}"
                ) from failure

    def prepare(self) -> None:
        """Launch the first configuration that can be, and find out what a launch writes.

        Raises:
            DeviceMemoryError: what is needed for that does not fit.
            NothingTunedError: there is nothing to compare, so nothing can be verified.
            GpuLostError: a configuration broke the GPU's context.
        """
        with self._fitting(self._own.args, self._own.kwargs):
            self.reference = self._first_that_runs()
            self._written = self._places_written()
            self._marks = self._own.fingerprints()
            self._expected = Expected(self._compared())
            starts_matter = self._starts_matter()
            self._sets: Sets = sets_of(
                self._decorated, self._own, self._written, self._device, starts_matter
            )

    @contextmanager
    def _fitting(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            needed = memory_of((*args, *kwargs.values()))
            raise DeviceMemoryError(
                f"{self._decorated.name}: its tensors take {needed / 1e9:.3g} GB, and a copy of "
                "them, on which configurations are tried, does not fit; tune where more memory is "
                "free"
            ) from None

    def grid(self, config: Config) -> tuple[int, int, int]:
        """Programs on axes 0, 1, 2."""
        grid = self._own.kwargs["grid"]
        if callable(grid):
            options = self._configs[config].all_kwargs()
            grid = grid({**self._own.named(self._decorated.arg_names), **options})
        x, y, z = (*map(int, grid), 1, 1)[:3]
        return x, y, z

    def compile(self, configs: Sequence[Config]) -> dict[Config, Outcome]:
        """What compiling each gave, all at once in several threads."""
        begin = {config: self._compilation(config) for config in configs}
        made = compile_all(begin)
        for config, outcome in made.items():
            if outcome.binary is not None:
                reason = unfit_reason(outcome.binary, config, self._device)
                if reason:
                    made[config] = replace(outcome, status=Status.REJECTED, reason=reason)
        return made

    def evaluate(self, config: Config, made: Outcome, hopeless_us: float | None) -> Outcome:
        """Verify, measure, and verify once more.

        Args:
            config: one that compiles.
            made: what compiling gave.
            hopeless_us: when the first sample is slower than this it is the only one.

        Raises:
            GpuLostError: it broke the GPU's context.
        """
        if config in self._failed:
            return replace(self._failed[config], binary=made.binary)
        given = self._configs[config]
        try:
            error, fault = self._try(config)
            if fault:
                return replace(made, status=Status.WRONG, reason=fault, max_error=error)
            launch = lambda place: self._decorated.launch(given, self._sets[place])  # noqa: E731
            measured = self._timing.measured(config, launch, self._sets, hopeless_us)
            again, fault = self._try(config)
        except Exception as failure:
            return replace(self._failure(config, failure), binary=made.binary)
        if fault:
            return replace(made, status=Status.WRONG, reason=f"{fault}, after it was timed")
        return replace(
            made,
            reason=NO_REFERENCE,
            verified_by=VerifiedBy.DEVICE,
            time_us=float(statistics.median(measured.samples_us)),
            samples_us=measured.samples_us,
            max_error=max(error, again),
            disturbance=measured.disturbance,
        )

    def race(
        self, timing: Racing, configs: Sequence[Config], rounds: int
    ) -> tuple[list[tuple[float, ...]], str]:
        """Interleaved samples of each, and what disturbed them."""
        launches = {
            config: lambda place, given=self._configs[config]: self._decorated.launch(
                given, self._sets[place]
            )
            for config in configs
        }
        return timing.raced(launches, self._sets, rounds)

    def fault(self, config: Config) -> str:
        """What is wrong with what it leaves now; empty if nothing."""
        return self._try(config)[1]

    def _compilation(self, config: Config) -> Callable[[], Any]:
        own, options = self._own, self._configs[config].all_kwargs()

        def begin() -> Any:
            function = self._decorated.function
            return function.run(*own.args, **{**own.kwargs, "warmup": True}, **options)

        return begin

    def _first_that_runs(self) -> Config:
        for config in self._configs:
            try:
                self._launch(config)
                return config
            except Exception as failure:
                self._failed[config] = self._failure(config, failure)
        said = next(iter(self._failed.values())).reason
        raise NothingTunedError(
            f"{self._decorated.name}: none of {len(self._configs)} configurations can be launched; "
            f"of the first: {said}"
        )

    def _launch(self, config: Config, written: Sequence[int] | None = None) -> None:
        """On the first set, from its start."""
        self._decorated.start(self._own, written)
        self._decorated.launch(self._configs[config], self._own)
        _synchronize()

    def _places_written(self) -> tuple[int, ...]:
        """What a launch writes: where it leaves other bytes than it found.

        It may have found its very result there, so it is launched on other values, too.

        Raises:
            NothingTunedError: it writes nothing that is seen.
        """
        changed = self._own.changed()
        overwritten = self._own.overwrite(but=changed)
        before = self._own.fingerprints()
        self._decorated.launch(self._configs[self.reference], self._own)
        _synchronize()
        after = self._own.fingerprints()
        self._launch(self.reference)
        written = {*changed, *(place for place in overwritten if before[place] != after[place])}
        if not written:
            raise NothingTunedError(
                f"{self._decorated.name}: a launch changes none of its tensors, so nothing can be "
                "compared; what it writes through addresses in tensors is not seen"
            )
        return tuple(sorted(written))

    def _starts_matter(self) -> bool:
        """Whether a launch onto what the last one left gives something else.

        Raises:
            NothingTunedError: the same launch gives another result each time.
        """
        self._decorated.launch(self._configs[self.reference], self._own)
        _synchronize()
        again = self._expected.difference(self._results())[0] > 1.0
        if again:
            self._launch(self.reference, self._written)
            error, fault = self._expected.difference(self._results())
            if error > 1.0:
                raise NothingTunedError(
                    f"{self._decorated.name}: launched again with the same values it leaves "
                    f"others, so nothing can be compared ({fault}); name arguments that are no "
                    "result in buffers=[…]"
                )
        declared = self._decorated.reset_to_zero or self._decorated.restore_value
        return again or bool(declared)

    def _try(self, config: Config) -> tuple[float, str]:
        """Launch on the first set and compare: the error, and what is wrong."""
        self._launch(config, self._written)
        error, fault = self._expected.difference(self._results())
        if self._own.trespass():
            fault = f"writes beside its tensors{f'; {fault}' if fault else ''}"
        marks = self._own.fingerprints()
        others = [place for place in range(len(marks)) if place not in self._written]
        if changed := [place for place in others if marks[place] != self._marks[place]]:
            names = self._own.results(self._decorated.arg_names, changed)
            fault = f"changes {', '.join(names)}, which the first configuration does not"
            self._own.restore()
        return error, fault

    def _compared(self) -> dict[str, torch.Tensor]:
        """The results of the reference.

        Raises:
            NothingTunedError: all that it writes is named as buffers.
        """
        found = self._results()
        if not found:
            raise NothingTunedError(
                f"{self._decorated.name}: all that a launch writes is named in buffers=[…], so "
                "nothing can be compared"
            )
        return found

    def _results(self) -> dict[str, torch.Tensor]:
        found = self._own.results(self._decorated.arg_names, self._written)
        return {name: value for name, value in found.items() if name not in self._decorated.buffers}

    def _failure(self, config: Config, failure: Exception) -> Outcome:
        """What became of a configuration that could not be launched or measured.

        Raises:
            GpuLostError: nothing can be launched any more.
        """
        try:
            _synchronize()
        except Exception as lost:
            raise GpuLostError(
                f"{self._decorated.name} with {config}: {one_line(lost)}; this process cannot use "
                "the GPU any more, start it again: that configuration is passed over then",
                config,
            ) from failure
        if isinstance(failure, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
        status = Status.ERROR
        if isinstance(failure, OutOfResources):
            status = Status.REJECTED
        elif isinstance(failure, triton.TritonError):
            status = Status.COMPILE_ERROR
        return Outcome(status, reason=one_line(failure), details=full_text(failure))


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
