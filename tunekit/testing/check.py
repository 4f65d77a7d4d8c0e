"""Check a kernel as its author's own tests should."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tunekit.kernels.kernel import Kernel
from tunekit.testing.cases import Case, Shapes, cases_at
from tunekit.testing.checker import Checker, Options
from tunekit.testing.place import Place, place_of
from tunekit.testing.report import EnoughError, Ledger, Report
from tunekit.testing.specials import Given


def check_kernel(
    kernel: Kernel,
    *,
    shapes: Shapes | None = None,
    dtypes: Iterable[str] | None = None,
    configs: Iterable[Mapping[str, int]] | None = None,
    device: str | None = None,
    deterministic: bool = True,
    special_values: Given = True,
    scalars: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Report:
    """Compare a kernel with its reference in many ways, and raise if one is wrong.

    In each dtype, at sizes such as 1, primes, one more and one less than a block and multiples of
    16: random values, twice, between guard bytes, into outputs that hold nan and then other bytes,
    so that what is not written shows, what is written beside them, what is changed of the inputs,
    and what is not the same twice. At the first size of each dtype also a sample of the space's
    configurations, special values, other values of the scalars, tensors that start at no multiple
    of 16 bytes, have gaps between rows or are transposed, and the call as a model makes it.

    Args:
        kernel: one of the library, of `tunekit.pointwise` or of `@tunekit.kernel`.
        shapes: tuples as for `--shape`, or mappings from the names of sizes; by default some that
            find mistakes. One that is given must not be refused.
        dtypes: by default all that the kernel is tuned in.
        configs: configurations, the first in place of the default; by default a sample of the
            space.
        device: `cuda`, `cuda:1`; by default the current GPU. In Triton's interpreter the CPU.
        deterministic: whether the same inputs have to give the same bits. Floating-point atomics do
            not: give False, and results are compared with the reference only.
        special_values: whether to try ±0, ±inf, nan, a subnormal number and the largest ones in
            every input of a float dtype, one at a time unless the kernel is element-wise; or the
            numbers to try; or a mapping from the inputs to try them in to either. What becomes of
            the result is as the reference says.
        scalars: values in place of the kernel's own.
        seed: of all that is random.

    Returns:
        What was checked, and what the kernel refused: that is no failure.

    Raises:
        AssertionError: the kernel is wrong; the message says where, what differs and how to
            reproduce it.
        UsageError: kernels cannot run there, or a shape, dtype or input is none of the kernel.
        KernelError: a scalar is none of it.
    """
    place = place_of(device)
    return _checked(
        kernel,
        cases_at(kernel, shapes, dtypes, place),
        place,
        Options.of(kernel, configs, deterministic, special_values, scalars, seed),
        device,
    )


def check_cases(
    kernel: Kernel,
    cases: Sequence[Case],
    *,
    configs: Iterable[Mapping[str, int]] | None = None,
    device: str | None = None,
    deterministic: bool = True,
    special_values: Given = True,
    scalars: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Report:
    """The same for some of a kernel's cases; see `check_kernel`."""
    options = Options.of(kernel, configs, deterministic, special_values, scalars, seed)
    return _checked(kernel, cases, place_of(device), options, device)


def _checked(
    kernel: Kernel,
    cases: Sequence[Case],
    place: Place,
    options: Options,
    device: str | None,
) -> Report:
    ledger = Ledger(kernel.name, place.name, options.text(device))
    checker = Checker(kernel, place, options, ledger)
    try:
        with place.current():
            for case in cases:
                checker.check(case)
    except EnoughError:
        pass  # which the report says
    return ledger.report()
