"""Runs the checks of one case after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from triton.runtime.errors import OutOfResources

from tunekit.core.config import Config
from tunekit.evaluate.guards import FINITE, NOT_A_NUMBER, Buffers, prepare
from tunekit.evaluate.inputs import draw_for
from tunekit.evaluate.judge import Judge
from tunekit.evaluate.tensors import clone_of, differing, empty_of
from tunekit.evaluate.text import one_line
from tunekit.evaluate.trial import Trial
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Input, Launch, TensorMeta
from tunekit.testing import calls, specials
from tunekit.testing.cases import Case
from tunekit.testing.layouts import between, layouts_of, whole
from tunekit.testing.place import Place
from tunekit.testing.planning import (
    BrokenError,
    RefusedError,
    default_of,
    input_names,
    planned,
    programs,
)
from tunekit.testing.report import EnoughError, Fault, Ledger
from tunekit.testing.sample import sample_configs
from tunekit.testing.sizes import MOST_PROGRAMS, default_shapes, shape_for

_OTHER_SCALAR = 1.5
"""What a scalar is multiplied by; 0.25 takes the place of 0."""
_BETWEEN = 1
"""A byte between elements that is left alone by nothing but who does not write it: 2.4e-38 in
float32, 1.5e-5 in float16."""
_NO_REFERENCE = "there is no reference: all is compared with the default configuration"


@dataclass(frozen=True)
class Options:
    """What a person asked for; see `check_kernel`."""

    configs: tuple[Config, ...] | None
    deterministic: bool
    special_values: Mapping[str, tuple[float, ...] | bool]
    names: tuple[str, ...]
    scalars: Mapping[str, float]
    given: Mapping[str, float]
    seed: int

    @classmethod
    def of(
        cls,
        kernel: Kernel,
        configs: Iterable[Mapping[str, int]] | None,
        deterministic: bool,
        special_values: specials.Given,
        scalars: Mapping[str, float] | None,
        seed: int,
    ) -> Options:
        """What was given to `check_kernel`.

        Raises:
            KernelError: the kernel has no such scalar.
            UsageError: the kernel has no such input.
        """
        names = tuple(input_names(kernel, kernel.input_count))
        return cls(
            None if configs is None else tuple(map(Config, configs)),
            deterministic,
            specials.kept(special_values, names),
            names,
            kernel.scalar_values(scalars),
            dict(scalars or {}),
            seed,
        )

    def text(self, device: str | None) -> str:
        """The arguments that ask for the same, but for shapes, dtypes and configurations."""
        parts = [] if device is None else [f"device={device!r}"]
        parts += [] if self.deterministic else ["deterministic=False"]
        parts += filter(None, [specials.text_of(self.special_values, self.names)])
        parts += [f"scalars={dict(self.given)}"] if self.given else []
        parts += [f"seed={self.seed}"] if self.seed else []
        return "".join(f", {part}" for part in parts)


@dataclass(frozen=True)
class _Run:
    """A launch of a case, with a configuration and scalars, and what to call it."""

    case: Case
    shape: tuple[int, ...]
    launch: Launch
    config: Config
    trial: Trial
    what: str


class Checker:
    """Checks cases of a kernel and notes what it finds."""

    def __init__(self, kernel: Kernel, place: Place, options: Options, ledger: Ledger) -> None:
        self._kernel, self._place = kernel, place
        self._options, self._ledger = options, ledger

    def check(self, case: Case) -> None:
        """Check one case.

        Raises:
            EnoughError: so much is wrong that nothing more has to be tried.
        """
        self._ledger.dtypes[case.dtype] = None
        try:
            if not case.shape:
                default_shapes(self._kernel, case.dtype, self._place)  # raises, as it did before
            launch = self._launch(case.shape, case.dtype)
            default = self._first_config(launch)
        except RefusedError as error:
            self._refused(case, str(error))
            return
        except BrokenError as error:
            self._blame(case, case.shape, None, "planning", str(error))
            return
        self._ledger.shapes[self._kernel.shape_text(case.shape)] = None
        sampled = self._sampled(case, launch, default)
        plain = self._run(case, case.shape, launch, default, "random values")
        right = self._attempt(plain, lambda: self._values(plain))
        for turn, config in enumerate(sampled):
            self._configuration(case, launch, config, turn)
        if not (case.thorough and right):
            return  # what is wrong on random values is wrong in every other respect
        if self._kernel.reference is None:
            self._ledger.notes[_NO_REFERENCE] = None
        else:
            self._specials(plain)
        self._scalars(plain)
        if self._kernel.elementwise:
            self._in_place(plain)
        wrong = self._layouts(plain)
        self._calls(plain, wrong)

    def _launch(self, shape: tuple[int, ...], dtype: str) -> Launch:
        return planned(lambda: self._kernel.launch_for(shape, dtype, self._place.device))

    def _first_config(self, launch: Launch) -> Config:
        given = self._options.configs
        return given[0] if given else default_of(self._kernel, launch, self._place.device)

    def _sampled(self, case: Case, launch: Launch, default: Config) -> list[Config]:
        """The configurations of a case besides the first: all, or one of them in turn."""
        given = self._options.configs
        if given is not None:
            found = [config for config in given if config != default]
        else:
            found = sample_configs(
                self._kernel, launch, case.dtype, default, self._place, self._options.seed
            )[1:]
        return found if case.thorough or not found else [found[case.turn % len(found)]]

    def _run(
        self,
        case: Case,
        shape: tuple[int, ...],
        launch: Launch,
        config: Config,
        what: str,
        scalars: Mapping[str, float] | None = None,
    ) -> _Run:
        values = dict(self._options.scalars if scalars is None else scalars)
        self._ledger.configs[str(config)] = None

        def run_default(inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> None:
            default = self._kernel.default(launch, self._place.device)
            self._place.runs(launch, default, values)(inputs, outputs)

        trial = Trial(
            self._kernel,
            launch,
            shape,
            case.dtype,
            values,
            self._place.name,
            self._place.runs(launch, config, values),
            run_default,
        )
        return _Run(case, shape, launch, config, trial, what)

    def _values(self, run: _Run) -> str:
        """Random values, the same again, and of a thorough case others in the same tensors."""
        if run.case.thorough:
            found = run.trial.twice(self._options.seed, self._place.tensors)
            if found.fault:
                return found.fault
        return self._same_again(run)

    def _same_again(self, run: _Run) -> str:
        """Launch twice on the same inputs, with other bytes in the outputs before."""
        buffers = self._drawn(run)
        found = run.trial.once(buffers, NOT_A_NUMBER)
        if found.fault or not self._options.deterministic:
            return found.fault
        results = buffers.outputs[: len(run.launch.results)]
        kept = [clone_of(result) for result in results]
        prepare(run.launch, buffers.inputs, buffers.outputs, FINITE)
        run.trial.run(buffers.inputs, buffers.outputs)
        for index in differing(zip(kept, results, strict=True)):
            count = int((kept[index] != results[index]).sum())
            which = f"output {index}: " if len(results) > 1 else ""
            return (
                f"gives other bits for the same inputs ({which}{count:,} of "
                f"{results[index].numel():,} elements): atomics that add floats do, which "
                "deterministic=False allows; else it uses what memory held before"
            )
        return ""

    def _configuration(self, case: Case, launch: Launch, config: Config, turn: int) -> None:
        """One more configuration, where it has full blocks unless a person gave the shapes."""
        shape = case.shape
        if case.thorough and not case.given:
            other = shape_for(self._kernel, shape, config, turn)
            try:
                own = self._launch(other, case.dtype)
                if not self._place.interprets or programs(own, config) <= MOST_PROGRAMS:
                    shape, launch = other, own
            except (RefusedError, BrokenError):
                pass  # such sizes are refused, and told, elsewhere
        run = self._run(case, shape, launch, config, "random values")
        self._attempt(run, lambda: self._same_again(run))

    def _specials(self, plain: _Run) -> None:
        buffers = Buffers.of(plain.launch, self._place.tensors)
        names = self._options.names
        given = [self._options.special_values.get(name, False) for name in names]
        every = list(specials.places(buffers.inputs, given, self._options.seed))
        if self._kernel.elementwise and every and not self._special(plain, every):
            self._ledger.checks["special values"] += 1
            return
        for each in every:
            number, index, name, _ = each
            run = replace(plain, what=f"{name} in {names[number]} at {index}")
            self._attempt(run, lambda each=each: self._special(plain, [each]), "special values")  # type: ignore[misc]

    def _special(self, run: _Run, places: Sequence[tuple[int, tuple[int, ...], str, float]]) -> str:
        """Launch with values at those places."""
        buffers = self._drawn(run)
        for number, index, _, value in places:
            buffers.inputs[number][index] = value
        found = run.trial.once(buffers, FINITE)
        if found.error > 1.0:
            for other in specials.judges(self._kernel):
                judge = Judge.of(other, run.launch, buffers.inputs, run.trial.scalars, keep=False)
                if judge.error_of(buffers.outputs) <= 1.0:
                    return ""
        return found.fault

    def _scalars(self, plain: _Run) -> None:
        for name, value in self._options.scalars.items():
            changed = {**self._options.scalars, name: value * _OTHER_SCALAR if value else 0.25}
            what = f"{name}={changed[name]:g}"
            run = self._run(plain.case, plain.shape, plain.launch, plain.config, what, changed)
            self._attempt(run, lambda run=run: self._same_again(run), "other scalars")  # type: ignore[misc]

    def _in_place(self, plain: _Run) -> None:
        """An element-wise kernel may be given one of its inputs to write to."""

        def task() -> str:
            buffers = self._drawn(plain)
            scalars = plain.trial.scalars
            judge = Judge.of(self._kernel, plain.launch, buffers.inputs, scalars, keep=False)
            outputs = buffers.inputs[:1]
            plain.trial.run(buffers.inputs, outputs)
            error = judge.error_of(outputs)
            if error > 1.0:
                return judge.describe(outputs, error, FINITE, "in place")
            return buffers.damage()

        if self._kernel.reference is not None:
            self._attempt(replace(plain, what="in place"), task, "in place")

    def _layouts(self, plain: _Run) -> set[str]:
        """Launch on other layouts; gives those that are wrong."""
        wrong = set()
        for what, metas in self._other_layouts(plain):
            try:
                launch = planned(lambda metas=metas: self._kernel.plan(metas, self._place.device))  # type: ignore[misc]
                if self._kernel.elementwise:  # out= may lie where the inputs do
                    outputs = (replace(launch.outputs[0], misalignment=metas[0].misalignment),)
                    launch = replace(launch, outputs=outputs)
            except RefusedError as error:
                self._ledger.refuse(what, plain.case.dtype, str(error))
                continue
            except BrokenError as error:
                self._blame(plain.case, plain.shape, None, what, str(error))
                wrong.add(what)
                continue
            run = self._run(plain.case, plain.shape, launch, plain.config, what)
            if not self._attempt(run, lambda run=run: self._with_gaps(run), "other layouts"):  # type: ignore[misc]
                wrong.add(what)
        return wrong

    def _with_gaps(self, run: _Run) -> str:
        """Launch on tensors between whose elements nan lies, then what arithmetic changes."""
        for byte in (NOT_A_NUMBER, _BETWEEN):
            buffers = self._drawn(run, gaps=byte)
            names = input_names(self._kernel, len(buffers.inputs))
            memory = dict(zip(names, buffers.inputs, strict=True))
            for index, output in enumerate(buffers.outputs):
                if isinstance(start := run.launch.start_of(index), Input):
                    memory[names[start.index]] = output
                    whole(output).view(torch.uint8).fill_(byte)
            found = run.trial.once(buffers, byte)
            if found.fault:
                return found.fault
            for name, x in memory.items():
                if not between(x).view(torch.uint8).eq(byte).all():
                    return f"writes between the elements of {name}"
        return ""

    def _calls(self, plain: _Run, wrong: set[str]) -> None:
        """The call as a model makes it, on each layout that is right between guards."""
        caller = calls.caller_of(self._kernel, plain.trial.scalars)
        if caller is None:
            return
        plain_metas = plain.launch.inputs
        for what, metas in [("called", plain_metas), *self._other_layouts(plain)]:
            if what in wrong:
                continue
            run = replace(plain, what=what if what == "called" else f"called on {what}")

            def task(metas: Sequence[TensorMeta] = metas) -> str:
                drawn = self._drawn(plain)
                return calls.fault_of(caller, plain.trial, drawn.inputs, metas, self._place)

            try:
                self._attempt(run, task, "calls")
            except calls.CallRefusedError as error:
                if what == "called":
                    self._blame(plain.case, plain.shape, plain.config, what, str(error))
                else:
                    self._ledger.refuse(what, plain.case.dtype, str(error))

    def _other_layouts(self, plain: _Run) -> Iterator[tuple[str, tuple[TensorMeta, ...]]]:
        metas = plain.launch.inputs
        return layouts_of(metas, input_names(self._kernel, len(metas)))

    def _drawn(self, run: _Run, *, gaps: int | None = None) -> Buffers:
        """Buffers of a launch, their inputs filled as dense ones would be; that byte in gaps."""
        buffers = Buffers.of(run.launch, self._place.tensors)
        dense = self._kernel.input_metas(run.shape, run.case.dtype)
        values = [empty_of(meta, self._place.tensors) for meta in dense]
        draw_for(self._kernel, values, run.shape, run.case.dtype, self._options.seed)
        for x, own in zip(buffers.inputs, values, strict=True):
            if gaps is not None:
                whole(x).view(torch.uint8).fill_(gaps)
            x.copy_(own)
        return buffers

    def _attempt(self, run: _Run, task: Callable[[], str], kind: str = "random values") -> bool:
        """Do it, note what is wrong, or what it raised, and say whether it is right."""
        fatal = False
        try:
            fault = task()
        except (EnoughError, calls.CallRefusedError):
            raise
        except OutOfResources as error:
            if run.config != self._first_config(run.launch):
                self._ledger.refuse(f"configuration {run.config}", run.case.dtype, one_line(error))
                return True
            fault = f"the default configuration cannot run: {one_line(error)}"
        except Exception as error:
            fault = f"raises {one_line(error)}"
            fatal = "CUDA error" in str(error)  # which every later launch would find again
        self._ledger.checks[kind] += 1
        if fault:
            self._blame(run.case, run.shape, run.config, run.what, fault, fatal=fatal)
        return not fault

    def _refused(self, case: Case, reason: str) -> None:
        if case.given:
            self._blame(case, case.shape, None, "refused", reason)
        else:
            text = self._kernel.shape_text(case.shape) if case.shape else "every shape tried"
            self._ledger.refuse(text, case.dtype, reason)

    def _blame(
        self,
        case: Case,
        shape: tuple[int, ...],
        config: Config | None,
        what: str,
        reason: str,
        *,
        fatal: bool = False,
    ) -> None:
        text = self._kernel.shape_text(shape) if shape else "every shape tried"
        self._ledger.blame(Fault(case.dtype, shape, text, config, what, reason), fatal=fatal)
