"""What the driver's launcher is given for a tensor descriptor, kept by address.

Triton's own launch encodes each descriptor anew at every call. All but the address is a plan's, and
a model's tensors lie in few places.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from tunekit.kernels.plan import TensorMeta

_MOST_ADDRESSES = 1024


class TensorMaps:
    """Encoded descriptors of tensors that differ in their address alone.

    Args:
        meta: shape and strides of the tensors.
        described: what the compiler says of the descriptor: its swizzle, block and element.
    """

    def __init__(self, meta: TensorMeta, described: Mapping[str, Any]) -> None:
        self._sizes = [*meta.shape], [*meta.strides]
        self._described = described
        self._known: dict[int, tuple[Any, ...]] = {}

    def __call__(self, address: int) -> tuple[Any, ...]:
        """The arguments that stand for a descriptor of the tensor there: map, shape, strides."""
        found = self._known.get(address)
        if found is None:
            if len(self._known) >= _MOST_ADDRESSES:
                self._known.clear()
            found = self._known[address] = self._encoded(address)
        return found

    def _encoded(self, address: int) -> tuple[Any, ...]:
        from triton.backends.nvidia.driver import TMA_DTYPE_DEVICE_TO_HOST
        from triton.runtime import driver

        shape, strides = self._sizes
        described = self._described
        encoded = driver.active.utils.fill_tma_descriptor(
            address,
            described["swizzle"],
            described["elem_size"],
            TMA_DTYPE_DEVICE_TO_HOST[described["elem_type"]],
            described["block_size"],
            shape,
            strides,
            0,  # elements beyond the tensor are 0
        )
        return encoded, *shape, *strides


def beneath_descriptors(launch: Any) -> Any:
    """The launcher that takes encoded descriptors, under the one that encodes them.

    None if the launch is not made as the proven versions of Triton make it.
    """
    if not inspect.isfunction(launch):
        return None
    return inspect.getclosurevars(launch).nonlocals.get("launcher")
