"""Read what a person gave on the command line: problems and databases."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tunekit.core.device import device_named
from tunekit.core.problem import parse_dtype
from tunekit.errors import KernelError, ShapeError, UsageError
from tunekit.paths import shipped_database, user_database
from tunekit.shapes import read_shapes

if TYPE_CHECKING:
    from tunekit.core.evaluation import Evaluation
    from tunekit.kernels.kernel import Kernel
    from tunekit.recorded import Recorded
    from tunekit.search.task import Task
    from tunekit.search.worth import Weighed
    from tunekit.store.cache import CacheRow
    from tunekit.store.database import Store

Row = TypeVar("Row", "CacheRow", "Evaluation")


def shape_tasks(
    reference: str | None,
    shapes: Sequence[str],
    dims: Sequence[str],
    file: Path | None,
    dtypes: Sequence[str],
    params: Iterable[str],
) -> list[Task]:
    """What to tune of one kernel: every shape in every dtype.

    Raises:
        UsageError: no kernel, no shape, or one of the arguments is wrong.
    """
    from tunekit.kernels.registry import find_kernel
    from tunekit.search.task import Task

    if reference is None:
        raise UsageError("name a KERNEL to tune; `tunekit kernels` lists the library's")
    kernel = find_kernel(reference)
    scalars = read_scalars(kernel, params)
    names = dict.fromkeys(read_dtype(kernel, each) for each in dtypes or [kernel.dtypes[0]])
    return [
        Task(kernel=kernel, reference=reference, shape=shape, dtype=dtype, scalars=scalars)
        for shape, dtype in itertools.product(read_shapes(kernel, shapes, dims, file), names)
    ]


def read_dtype(kernel: Kernel, text: str | None) -> str:
    """A dtype that the kernel is tuned in, by its full name; None is its first.

    Raises:
        ShapeError: it is none of them.
    """
    name = kernel.dtypes[0] if text is None else parse_dtype(text)
    if name not in kernel.dtypes:
        raise ShapeError(
            f"--dtype {text!r:.100}: {kernel.name} is tuned in {', '.join(kernel.dtypes)}"
        )
    return name


def read_recorded(
    path: Path, reference: str | None, params: Sequence[str]
) -> tuple[list[Recorded], dict[str, float] | None]:
    """What a program recorded, of one kernel if one is named, and that kernel's scalars.

    A kernel that is named is the one to tune, wherever it was when it was recorded.

    Raises:
        UsageError: scalars are given and no kernel, or the kernel was not recorded.
        ImportFormatError: the file cannot be read, or holds something else.
    """
    from tunekit.recorded import read

    if reference is None:
        if params:
            raise UsageError("--param with --recorded: name the KERNEL whose scalars these are")
        return read(path), None
    from tunekit.kernels.registry import find_kernel

    kernel = find_kernel(reference)
    scalars = read_scalars(kernel, params)
    found = [each for each in read(path) if each.problem.kernel == kernel.name]
    if not found:
        raise UsageError(f"--recorded {path}: no call of {kernel.name} was recorded there")
    return [replace(each, reference=reference) for each in found], scalars


def weighed_problems(
    path: Path, kernel: str | None, device: str | None, database: Path | None
) -> list[Weighed]:
    """What a program recorded and what tuning it is worth; shares are of all that is in the file.

    Raises:
        UsageError: there is no such database, kernel or GPU model.
        ImportFormatError: the file cannot be read, or holds something else.
    """
    from tunekit.recorded import read
    from tunekit.search.worth import Tuned, weigh

    weighed = weigh(read(path), Tuned(cached_rows(None, None, database)))
    if kernel is not None:
        name = _find_name(kernel) if ":" in kernel else kernel
        weighed = [each for each in weighed if each.recorded.problem.kernel == name]
        if not weighed:
            _find_name(kernel)  # a name that nothing has is a mistake: it says so
    if device is not None:
        known = {each.recorded.problem.device for each in weighed}
        slug = device if device in known else device_named(device).slug
        weighed = [each for each in weighed if each.recorded.problem.device == slug]
    return weighed


def read_scalars(kernel: Kernel, params: Iterable[str]) -> dict[str, float]:
    """The kernel's scalars, those given as NAME=NUMBER in place of its own.

    Raises:
        UsageError: one is no such pair, or the kernel has no scalar of that name.
    """
    values: dict[str, float] = {}
    for text in params:
        name, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"--param {text!r:.100}: expected NAME=NUMBER, such as scale=2.0")
        values[name.strip()] = value
    try:
        return kernel.scalar_values(values)
    except KernelError as error:
        raise UsageError(f"--param: {error}") from None


def cached_rows(kernel: str | None, device: str | None, database: Path | None) -> list[CacheRow]:
    """Rows of the person's database, and of the shipped one where that knows better."""
    from tunekit.runtime.known import merged_rows
    from tunekit.store.cache import read_cache

    if database is not None and not os.path.exists(database):
        raise UsageError(f"--db {database}: no such file")
    name = _row_name(kernel, database)
    person = read_cache(database or user_database(), kernel=name)
    shipped = read_cache(shipped_database(), kernel=name, immutable=True)
    rows = merged_rows(person, shipped)
    if kernel and not rows:
        _find_name(kernel)  # a name that nothing has is a mistake: it says so
    return _on_device(rows, device)


def known_evaluations(
    kernel: str | None, device: str | None, database: Path | None
) -> list[Evaluation]:
    """Evaluations of the person's database and of the shipped one."""
    from tunekit.store.database import Store

    if database is not None and not os.path.exists(database):
        raise UsageError(f"--db {database}: no such file")
    name = _row_name(kernel, database)
    person = database or user_database()
    rows: list[Evaluation] = []
    with ExitStack() as stack:
        stores = open_shipped(stack)
        if person.exists():
            stores.append(stack.enter_context(Store.open(person, readonly=True)))
        for store in stores:
            rows += store.evaluations(kernel=name)
    if kernel and not rows:
        _find_name(kernel)  # a name that nothing has is a mistake: it says so
    return _on_device(rows, device)


def _on_device(rows: list[Row], device: str | None) -> list[Row]:
    if device is None:
        return rows
    # A GPU that is not in the table is known by its rows alone.
    known = any(row.problem.device == device for row in rows)
    slug = device if known else device_named(device).slug
    return [row for row in rows if row.problem.device == slug]


def rows_named(name: str, database: Path | None) -> list[CacheRow]:
    """Rows of a kernel that are named so in a database; nothing is imported by the name."""
    from tunekit.runtime.known import merged_rows
    from tunekit.store.cache import read_cache

    person = read_cache(database or user_database(), kernel=name)
    return merged_rows(person, read_cache(shipped_database(), kernel=name, immutable=True))


def _row_name(kernel: str | None, database: Path | None) -> str | None:
    """What rows call a kernel; `module:function` where `tunekit.autotune` has left some."""
    if kernel is None or ":" not in kernel or rows_named(kernel, database):
        return kernel
    return _find_name(kernel)


def _find_name(kernel: str) -> str:
    from tunekit.kernels.registry import find_kernel

    return find_kernel(kernel).name


def open_shipped(stack: ExitStack) -> list[Store]:
    """The shipped database if there is one, open until the stack ends."""
    from tunekit.store.database import Store

    path = shipped_database()
    if not path.exists():
        return []
    return [stack.enter_context(Store.open(path, readonly=True, immutable=True))]
