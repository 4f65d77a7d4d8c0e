"""The channelwise kernels that follow from a pointwise one: with a bias, and for each layout.

They are named after it: `mish_mish+bias` takes a contiguous x and a bias of shape (C,),
`mish_mish+bias/channels_last` the same of a channels-last x, `identity/to_channels_last` only
changes how x is stored.
"""

from __future__ import annotations

from tunekit.errors import KernelError
from tunekit.kernels.by_channel import channelwise
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.layouts import Layout
from tunekit.kernels.pointwise import pointwise_kernel

_BIAS = "+bias"
_made: dict[tuple[int, bool, Layout], tuple[Kernel, Kernel]] = {}
"""What was made, beside what it was made of, whose `id` so stays its own."""


def folded(kernel: Kernel, layout: Layout = Layout.CONTIGUOUS, *, bias: bool = True) -> Kernel:
    """The kernel for (N, C, *spatial) with a bias folded in; always the same object.

    Args:
        kernel: a pointwise one of one input.
        layout: how x and the result are stored.
        bias: whether a bias of shape (C,) is added first.

    Raises:
        KernelError: the kernel is not pointwise, or takes several inputs.
    """
    key = (id(kernel), bias, layout)
    found = _made.get(key)
    if found is None:  # another thread may have made it meanwhile
        found = _made.setdefault(key, (_make(kernel, layout, bias), kernel))
    return found[0]


def suffix_of(layout: Layout, *, bias: bool) -> str:
    """What such a kernel's name has after the name of the one it was made of."""
    form = "" if layout is Layout.CONTIGUOUS else f"/{layout.name.lower()}"
    return (_BIAS if bias else "") + form


SUFFIXES = {
    suffix_of(layout, bias=bias): (layout, bias)
    for layout in Layout
    for bias in (True, False)
    if bias or layout is not Layout.CONTIGUOUS
}
"""Every suffix there is, and what it stands for; a contiguous one without bias is pointwise."""


def origin_of(kernel: Kernel) -> tuple[Kernel, str] | None:
    """The kernel that one was made of, and the suffix; None if it was not made here."""
    for (_, bias, layout), (made, origin) in _made.items():
        if made is kernel:
            return origin, suffix_of(layout, bias=bias)
    return None


def _make(kernel: Kernel, layout: Layout, bias: bool) -> Kernel:
    reference = kernel.reference
    if kernel.functions[0] is not pointwise_kernel or kernel.input_count != 1 or reference is None:
        raise KernelError(
            f"{kernel.name}: a bias can be folded into pointwise kernels of one input only"
        )
    stored = {Layout.CONTIGUOUS: "", Layout.CHANNELS_LAST: ", channels-last"}
    what = ", each channel's bias added first" if bias else ""
    return channelwise(
        kernel.name + suffix_of(layout, bias=bias),
        epilogue=kernel.functions[1],
        reference=reference,
        scalars=kernel.scalars,
        parameters=("bias",) if bias else (),
        layout=layout,
        summary=kernel.summary + what + stored.get(layout, f", {layout.name.lower()}"),
    )
