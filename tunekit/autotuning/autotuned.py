"""A kernel under `@tunekit.autotune`: what a call does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any
from weakref import WeakSet

import triton
from triton.compiler.errors import CompileTimeAssertionFailure
from triton.runtime.autotuner import Autotuner
from triton.runtime.errors import AutotunerError, InterpreterError, OutOfResources, PTXASError

from tunekit.autotuning import arguments, forms, here, serving
from tunekit.autotuning.configs import Table, as_triton
from tunekit.autotuning.dynamo import hide_from_dynamo
from tunekit.autotuning.forms import Form, Served, several_gpus
from tunekit.autotuning.identity import kernel_hash, kernel_name
from tunekit.autotuning.problem import Described, Kernel, describe
from tunekit.autotuning.serving import Choice, OnMiss
from tunekit.core.config import Config
from tunekit.core.space import Space, context
from tunekit.errors import KernelError, SpaceError, TunekitError
from tunekit.notices import warn
from tunekit.runtime.call import on_reload

_DOES_NOT_FIT = (OutOfResources, CompileTimeAssertionFailure, PTXASError)
"""What Triton's own decorator passes over, too."""

_all: WeakSet[Autotuned] = WeakSet()
_said: set[tuple[str, str]] = set()


class Autotuned(Autotuner):  # type: ignore[misc]
    """A kernel whose configuration is looked up, as `triton.autotune`'s object is a kernel.

    It has all that Triton's has: `fn`, `arg_names`, `configs`, `cache`, `best_config`,
    `configs_timings`, `bench_time`, `run`, `warmup`.

    Args:
        function: a `@triton.jit` function, bare or under `@triton.heuristics`.
        configs: to choose from; None where a space says so.
        key: arguments whose values tell problems apart.
        space: in place of configurations.
        on_miss: what a call does that nothing was measured for.
        buffers: arguments whose contents are no result.
        options: what else Triton's decorator takes.

    Raises:
        TunekitError: something of that is wrong.
    """

    nargs: Any  # as Triton's: the positional arguments by name, while it chooses

    def __init__(
        self,
        function: Any,
        configs: Iterable[Any] | None,
        key: Iterable[str] | None,
        *,
        space: arguments.SpaceLike | None,
        on_miss: str,
        buffers: Iterable[str] | None,
        options: Mapping[str, Any],
    ) -> None:
        arguments.check_kernel(function)
        name = kernel_name(function)
        keys = list(key or ())
        if configs is not None and space is not None:
            raise KernelError(f"{name}: give configs=[…] or space=…, not both")
        self._space = None if space is None else arguments.read_space(space, name)
        if self._space is None:
            given = read = arguments.read_configs(configs, name)
            axes = {axis for each in read for axis in each.kwargs}
        else:
            given, axes = [_likely_default(self._space)], set(self._space.axis_names)
        self._on_miss = arguments.read_on_miss(on_miss, f"{name}: on_miss")
        if self._space is not None and options["prune_configs_by"]:
            raise KernelError(f"{name}: prune_configs_by is of configs; a space has constraints")
        self._buffers = frozenset(buffers or ())
        named = {
            "buffers": self._buffers,
            "reset_to_zero": options["reset_to_zero"] or (),
            "restore_value": options["restore_value"] or (),
        }
        arguments.check_names(function, keys, axes, named)
        self._name, self._axes = name, frozenset(axes)
        self._given_bench = options["do_bench"]
        self._lock = threading.RLock()
        self._forms: dict[Any, Form] = {}
        self._known = 0
        self._table = Table(given)
        super().__init__(function, list(function.arg_names), given, keys, **options)
        self._hooks = options["pre_hook"], options["post_hook"]
        if self._space is not None:
            # PyTorch takes a kernel into a graph with a grid for each of `configs`, which is not
            # all there is here. To a kernel that has this it leaves the call.
            self.user_defined_pre_hook = True
        _all.add(self)

    @property
    def configs(self) -> list[triton.Config]:
        """What is chosen from; another list may be put there, as some programs do."""
        return self._configs

    @configs.setter
    def configs(self, given: list[triton.Config]) -> None:
        self._configs = given
        self._table = Table(given)
        self._forms.clear()
        if self._space is None:
            self._axes = frozenset(axis for each in given for axis in each.kwargs)
            self.__dict__.pop("kernel", None)

    @cached_property
    def kernel(self) -> Kernel:
        """What of a problem is this kernel's."""
        return Kernel(
            name=self._name,
            source_hash=kernel_hash(self.fn),
            arg_names=tuple(self.arg_names),
            constexprs=arguments.constexprs_of(self.fn),
            keys=tuple(self.keys),
            axes=self._axes,
        )

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        return partial(self.run, grid=grid, warmup=False)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Launch, or with `warmup=True` compile; `grid` is a tuple or a function of the arguments.

        Raises:
            TunekitError: `TUNEKIT_ON_MISS` says nothing that can be done.
        """
        try:
            form = self._forms[(len(args), *kwargs)]
            served = form.served[form.key(args, kwargs)]
        except (KeyError, AttributeError):  # seen for the first time, or a tensor is none now
            return self._first(args, kwargs)
        if len(self.cache) != self._known:
            return self._first(args, kwargs)
        self.best_config = served.given
        if served.pre_hook is not None:
            served.pre_hook({**dict(zip(self.arg_names, args)), **kwargs, **served.options})  # noqa: B905 - the rest is by name
        return self.fn.run(*args, **kwargs, **served.options)

    def forget(self) -> None:
        """Look everything up again."""
        with self._lock:
            self._forms.clear()
            self.cache.clear()
            self._known = 0

    def _first(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that nothing is remembered of: choose, launch, remember."""
        with self._lock:
            if len(self.cache) != self._known:  # somebody has cleared it, or put something there
                self._forms.clear()
                self._known = len(self.cache)
            named = dict(zip(self.arg_names, args, strict=False))
            key = self._triton_key({**named, **kwargs})
            self.nargs = named
            try:
                if self._space is None and len(self.configs) == 1:
                    given, is_final = self.configs[0], True
                    result = self._launched(given, args, kwargs)
                elif key in self.cache:
                    given, is_final = self.cache[key], True
                    result = self._launched(given, args, kwargs)
                else:
                    given, result, is_final = self._chosen(args, kwargs, key)
            finally:
                self.nargs = None
            self.best_config = given
            if is_final and not kwargs.get("warmup"):
                self._remember(key, given, args, kwargs)
            return result

    def _remember(
        self, key: tuple[Any, ...], given: triton.Config, args: tuple[Any, ...], kwargs: Any
    ) -> None:
        self.cache[key] = given
        self._known = len(self.cache)
        way = (len(args), *kwargs)
        form = self._forms.get(way) or Form.of(self.arg_names, self.keys, args, kwargs)
        try:
            found = form.key(args, kwargs)
        except AttributeError:  # what was a tensor is none
            form = Form.of(self.arg_names, self.keys, args, kwargs, form.optional)
            found = form.key(args, kwargs)
        form.served[found] = Served.of(given)
        self._forms[way] = form

    def _triton_key(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """What Triton's own decorator keeps a choice under."""
        own = {name: value for name, value in values.items() if name in self.arg_names}
        found = [own[name] for name in self.keys if name in own]
        found += [str(value.dtype) for value in own.values() if hasattr(value, "dtype")]
        if several_gpus():
            found.append(f"cuda:{forms.current_device()}")
        return tuple(found)

    def _launched(self, given: triton.Config, args: tuple[Any, ...], kwargs: Any) -> Any:
        options = given.all_kwargs()
        if given.pre_hook is not None:
            given.pre_hook({**self.nargs, **kwargs, **options})
        return self.fn.run(*args, **kwargs, **options)

    def _chosen(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], key: tuple[Any, ...]
    ) -> tuple[triton.Config, Any, bool]:
        """The first that can be launched, what that returned, and whether it may be kept."""
        device = here.device_here()
        if not device:
            # Nothing is measured here, in the interpreter above all: no row is of it.
            usable = self._usable(kwargs, self._points(kwargs, None))
            return self._first_of(usable.values(), args, kwargs)
        try:
            kernel = self.kernel
        except KernelError as error:
            warn(f"{error}; nothing can be looked up, the first configuration runs")
            usable = self._usable(kwargs, self._points(kwargs, None))
            return self._first_of(usable.values(), args, kwargs)
        described = describe(kernel, {**self.nargs, **kwargs}, device)
        configs = self._usable(kwargs, self._points(kwargs, described))
        asked, is_final = self._asked(kwargs)
        if asked is OnMiss.TUNE:
            tuned = self._tuned(described, configs, args, kwargs, key)
            if tuned is not None:
                return tuned, self._launched(tuned, args, kwargs), True
        found = self._served(described, configs, asked, args, kwargs)
        if found is not None:
            return *found, is_final
        if asked is not OnMiss.TUNE:  # then it was said why not
            self._say_untuned(described)
        given, result, _ = self._first_of(configs.values(), args, kwargs)
        return given, result, is_final

    def _asked(self, kwargs: Mapping[str, Any]) -> tuple[OnMiss, bool]:
        """What to do on a miss, and whether that is what was asked for."""
        asked = arguments.asked_on_miss(self._on_miss)
        if asked is not OnMiss.TUNE:
            return asked, True
        if kwargs.get("warmup"):
            return OnMiss.NEAREST, False
        if here.is_capturing():
            warn(
                f"{self._name}: cannot be tuned while a CUDA graph is captured, another "
                "configuration runs: call it once before"
            )
            return OnMiss.NEAREST, False
        return asked, True

    def _points(
        self, kwargs: Mapping[str, Any], described: Described | None
    ) -> Mapping[Config, triton.Config]:
        """What is chosen from in this call, the default first."""
        if self._space is None:
            return self._table.by_config
        if described is None:
            return Table([_likely_default(self._space)]).by_config
        from tunekit.core.device import DEVICES  # a space may ask for the device's facts

        problem = described.problem
        gpu = here.gpu_here()
        device = gpu.device if gpu is not None else DEVICES[problem.device]
        dims = {name: size for name, size in problem.dims if name not in self._axes}
        names = context(dims, described.itemsize, device)
        default = self._space.default(names)
        points = dict.fromkeys([default, *self._space.configs(names)])
        return {point: as_triton(point) for point in points}

    def _usable(
        self, kwargs: Mapping[str, Any], points: Mapping[Config, triton.Config]
    ) -> Mapping[Config, triton.Config]:
        """Those that the person's own pruning leaves.

        Raises:
            AutotunerError: none.
        """
        if self.early_config_prune is None:
            return points
        left = self.early_config_prune(list(points.values()), self.nargs, **kwargs)
        if not left:
            raise AutotunerError(
                "No valid autotuner configs after pruning. `early_config_prune` should return at "
                "least one config."
            )
        return self._named(left)

    def _named(self, given: Iterable[triton.Config]) -> dict[Config, triton.Config]:
        return self._table.only(given)

    def _first_of(
        self, given: Iterable[triton.Config], args: tuple[Any, ...], kwargs: Any
    ) -> tuple[triton.Config, Any, bool]:
        """The first that fits, of which the error is raised if none does."""
        failure: Exception | None = None
        for each in given:
            try:
                return each, self._launched(each, args, kwargs), True
            except _DOES_NOT_FIT as error:
                failure = failure or error
        assert failure is not None
        raise failure

    def _served(
        self,
        described: Described,
        configs: Mapping[Config, triton.Config],
        asked: OnMiss,
        args: tuple[Any, ...],
        kwargs: Any,
    ) -> tuple[triton.Config, Any] | None:
        """What a database has for it, launched; None if there is nothing that can be."""
        if not self._table.stored:
            return None
        for choice in self._choices(described, configs, asked):
            given = configs[choice.config]
            try:
                return given, self._launched(given, args, kwargs)
            except triton.TritonError as error:
                if isinstance(error, InterpreterError):
                    raise
                warn(
                    f"{self._name}: {choice.config}, which was measured, cannot be launched here: "
                    f"{type(error).__name__}; another runs instead"
                )
        return None

    def _choices(
        self, described: Described, configs: Mapping[Config, triton.Config], asked: OnMiss
    ) -> Iterator[Choice]:
        found = serving.exact(described.problem, configs)
        if found is not None:
            yield found
        if asked is OnMiss.NEAREST:
            yield from serving.nearest(described.problem, configs)

    def _tuned(
        self,
        described: Described,
        configs: Mapping[Config, triton.Config],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        key: tuple[Any, ...],
    ) -> triton.Config | None:
        """The winner, of a database or of measurements made now; None if nothing can be tuned."""
        problem = described.problem
        candidates = configs
        if self.perf_model is not None and self._space is None:
            candidates = self._named(self.prune_configs(kwargs))

        def again() -> Config | None:
            serving.known.forget()
            found = self._exact(problem, candidates)
            return None if found is None else found.config

        found = self._exact(problem, candidates)
        if found is not None:
            return candidates[found.config]
        began = time.time()
        from tunekit.autotuning import tuning
        from tunekit.autotuning.live import GpuLostError

        gpu = here.gpu_here()
        assert gpu is not None
        request = tuning.Request(
            described=described,
            decorated=self._decorated(),
            args=args,
            kwargs=kwargs,
            configs=candidates,
            stored=self._table.stored,
            is_space=self._space is not None,
            gpu=gpu,
            do_bench=self._given_bench,
            again=again,
        )
        try:
            tuned = tuning.tune(request)
        except GpuLostError:
            raise
        except TunekitError as error:
            warn(f"{error}; nothing is tuned, the first configuration runs")
            return None
        serving.known.forget()
        self.bench_time = time.time() - began
        self.configs_timings = {
            candidates[config]: [us / 1e3] * 3 for config, us in tuned.times_us.items()
        }
        winner = candidates[tuned.winner]
        if triton.knobs.autotuning.print:
            print(
                f"Triton autotuning for function {self.base_fn.__name__},\nwith key as {key},\n"
                f"finished after {self.bench_time:.2f}s,\nbest config selected: {winner};"
            )
        return winner

    def _exact(self, problem: Any, candidates: Mapping[Config, triton.Config]) -> Choice | None:
        """What won, if everything that is to be chosen from was measured."""
        if not self._table.stored:
            return None
        found = serving.exact(problem, candidates)
        if found is None or self._space is not None:
            return found
        return None if serving.unmeasured(problem, candidates) else found

    def _decorated(self) -> Any:
        from tunekit.autotuning.live import Decorated

        pre_hook, post_hook = self._hooks
        return Decorated(
            name=self._name,
            function=self.fn,
            arg_names=tuple(self.arg_names),
            pre_hook=pre_hook,
            post_hook=post_hook,
            reset_to_zero=() if pre_hook else tuple(self.reset_to_zero),
            restore_value=tuple(self.restore_value),
            buffers=self._buffers,
        )

    def _say_untuned(self, described: Described) -> None:
        problem = described.problem
        key = (self._name, problem.key)
        if key in _said:
            return
        _said.add(key)
        dims = ", ".join(f"{name} = {size}" for name, size in problem.dims)
        warn(
            f"nothing is tuned for {self._name} at {dims}, {problem.dtype}, on {problem.device}: "
            f"the first configuration runs; run once with {arguments.ON_MISS}=tune, or give the "
            'decorator on_miss="tune"'
        )


def _likely_default(space: Space) -> triton.Config:
    """The space's default, where no fact of a device is needed; else the first of each axis."""
    try:
        return as_triton(space.default({}))
    except SpaceError:
        return as_triton({axis.name: axis.values[0] for axis in space.axes})


hide_from_dynamo(Autotuned.run)
hide_from_dynamo(Autotuned.__getitem__)


def forget_all() -> None:
    """Look up everything again: the databases may hold something else now."""
    serving.known.forget()
    for each in list(_all):
        each.forget()


on_reload.append(forget_all)
