"""The ways a kernel is called, and what each kind of call is served.

Making a key has to cost less than Triton's own, so what is fetched from a call, and how, is worked
out once for each way of calling.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

import torch
import triton

current_device: Callable[[], int] = getattr(torch._C, "_cuda_getDevice", lambda: -1)
"""The number of the current GPU."""
_dtype_of = attrgetter("dtype")


@dataclass(frozen=True, slots=True)
class Served:
    """What a call is launched with.

    Attributes:
        given: the configuration.
        options: its keyword arguments.
        pre_hook: to call before each launch, None if there is none.
    """

    given: triton.Config
    options: dict[str, Any]
    pre_hook: Callable[[dict[str, Any]], object] | None

    @classmethod
    def of(cls, given: triton.Config) -> Served:
        """Of a configuration."""
        return cls(given, given.all_kwargs(), given.pre_hook)


@dataclass(slots=True)
class Form:
    """One way of calling: so many positional arguments, those by name, which are tensors.

    What it makes a key of is what Triton's key is made of: values of the key's arguments, dtypes.

    Attributes:
        served: by key.
        optional: places and names of what may be a tensor or not.
    """

    served: dict[Any, Served]
    optional: frozenset[Any]
    _args: tuple[Callable[[Any], Any] | None, ...]
    _kwargs: tuple[Callable[[Any], Any] | None, ...]
    _by_device: bool

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        keys: Sequence[str],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        optional: frozenset[Any] = frozenset(),
    ) -> Form:
        """The form of a call; what is None in it may be a tensor in the next."""
        places = {name: place for place, name in enumerate(names[: len(args)])}
        values: dict[Any, Any] = dict(enumerate(args[: len(places)]))
        named: dict[Any, Any] = {name: value for name, value in kwargs.items() if name in names}
        optional |= {each for each, value in {**values, **named}.items() if value is None}
        return cls(
            {},
            optional,
            _getters([places[name] for name in keys if name in places], values, optional),
            _getters([name for name in keys if name in named], named, optional),
            several_gpus(),
        )

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What is served by.

        Raises:
            AttributeError: what was a tensor is none.
        """
        of_key, of_tensors, of_optional = self._args
        found: tuple[Any, ...] = (
            of_key and of_key(args),
            of_tensors and (*map(_dtype_of, of_tensors(args)),),
            of_optional and (*map(_dtype_if_any, of_optional(args)),),
        )
        if self._kwargs is not _NO_GETTERS:
            of_key, of_tensors, of_optional = self._kwargs
            found += (
                of_key and of_key(kwargs),
                of_tensors and (*map(_dtype_of, of_tensors(kwargs)),),
                of_optional and (*map(_dtype_if_any, of_optional(kwargs)),),
            )
        return (*found, current_device()) if self._by_device else found


_NO_GETTERS = (None, None, None)


def _dtype_if_any(value: Any) -> Any:
    return getattr(value, "dtype", None)


def several_gpus() -> bool:
    """Whether a choice may be of one of several GPUs."""
    return torch.cuda.is_available() and torch.cuda.device_count() > 1


def _getters(
    keys: Sequence[Any], values: Mapping[Any, Any], optional: Container[Any]
) -> tuple[Callable[[Any], Any] | None, ...]:
    """What takes from a call the values of the key, the tensors, and what may be one."""
    mays = [each for each in values if each in optional]
    tensors = [each for each, value in values.items() if hasattr(value, "dtype")]
    tensors = [each for each in tensors if each not in optional]
    made = _getter(keys), _getter(tensors), _getter(mays)
    return _NO_GETTERS if made == _NO_GETTERS else made


def _getter(places: Sequence[Any]) -> Callable[[Any], Any] | None:
    """Takes several at once; of one it makes two, so that it always gives a tuple."""
    if not places:
        return None
    return itemgetter(*places) if len(places) > 1 else itemgetter(places[0], places[0])
