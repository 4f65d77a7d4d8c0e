"""The inputs that a plan of a person's is tuned with: of named shapes, or made by a hook."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from tunekit.errors import KernelError, TunekitError
from tunekit.kernels.plan import TensorMeta

if TYPE_CHECKING:
    from tunekit.kernels.kernel import Draw, InputMetas

Shapes = Mapping[str, Sequence[str | int]]
MakeInputs = Callable[..., Any]


def size_names(shapes: Shapes | None, inputs: MakeInputs | None) -> tuple[str, ...]:
    """Names of the sizes that state a problem: of `shapes`, else of the hook that makes inputs.

    Where both name them, in the hook's order.
    """
    of_hook: tuple[str, ...] = ()
    if inputs is not None:
        parameters = inspect.signature(inputs).parameters
        of_hook = tuple(name for name in parameters if name not in _HOOK_TAKES)
    if shapes is None:
        return of_hook
    for tensor, shape in shapes.items():
        if isinstance(shape, str) or not all(map(_is_size, shape)):
            raise KernelError(
                f"shapes= gives {tensor} {shape!r:.60}: expected names of sizes and numbers from 1 "
                "on, such as ('rows', 64)"
            )
    named = (size for shape in shapes.values() for size in shape if isinstance(size, str))
    found = tuple(dict.fromkeys(named))
    if not found:
        raise KernelError("shapes= names no size: something has to state the problem")
    return of_hook if set(of_hook) == set(found) else found


def _is_size(size: object) -> bool:
    return size.isidentifier() if isinstance(size, str) else type(size) is int and size > 0


_HOOK_TAKES = ("shape", "dtype", "device")


def metas_from(
    tensors: Sequence[str],
    shapes: Shapes | None,
    sizes: tuple[str, ...],
    inputs: MakeInputs | None,
) -> InputMetas:
    """What tuning at a shape allocates: as the hook makes them, of `shapes`, or of the shape."""

    def metas(shape: Sequence[int], dtype: str) -> tuple[TensorMeta, ...]:
        if inputs is not None:
            made = _made(inputs, sizes, shape, dtype, torch.device("meta"))
            return tuple(TensorMeta.of(each) for each in made)
        if shapes is None:
            return (TensorMeta.contiguous(shape, dtype),) * len(tensors)
        values = dict(zip(sizes, shape, strict=True))
        return tuple(
            TensorMeta.contiguous(
                [values[each] if isinstance(each, str) else each for each in shapes[tensor]], dtype
            )
            for tensor in tensors
        )

    return metas


def draw_from(sizes: tuple[str, ...], inputs: MakeInputs | None) -> Draw | None:
    """What fills tensors with the values of the hook."""
    if inputs is None:
        return None

    def draw(tensors: Sequence[torch.Tensor], shape: Sequence[int], dtype: str) -> None:
        for tensor, made in zip(
            tensors, _made(inputs, sizes, shape, dtype, tensors[0].device), strict=True
        ):
            tensor.copy_(made)

    return draw


def _made(
    inputs: MakeInputs,
    sizes: tuple[str, ...],
    shape: Sequence[int],
    dtype: str,
    device: torch.device,
) -> tuple[torch.Tensor, ...]:
    """What the hook gives.

    Raises:
        KernelError: something else than tensors, or an exception.
    """
    kind = getattr(torch, dtype)
    named = dict(zip(sizes, shape, strict=True)) if sizes else {"shape": tuple(shape)}
    try:
        if sizes:
            given = inputs(**named, dtype=kind, device=device)
        else:
            given = inputs(tuple(shape), dtype=kind, device=device)
        made: tuple[Any, ...] = (given,) if isinstance(given, torch.Tensor) else tuple(given)
    except TunekitError:
        raise
    except Exception as error:
        raise KernelError(
            f"inputs={getattr(inputs, '__name__', 'hook')} fails on {named}, {dtype}, {device}: "
            f"{type(error).__name__}: {error}"
        ) from error
    for each in made:
        if not isinstance(each, torch.Tensor) or each.device.type != device.type:
            what = each.device if isinstance(each, torch.Tensor) else type(each).__name__
            raise KernelError(
                f"{getattr(inputs, '__name__', 'inputs')}: expected tensors on the device that it "
                f"is given, {device}, got {what}"
            )
    return made
