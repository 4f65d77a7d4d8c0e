"""Read the shapes of problems that a person gave: --shape, --dim, and --shapes FILE."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.core.problem import parse_shape
from tunekit.errors import ShapeError, UsageError

if TYPE_CHECKING:
    from tunekit.kernels.kernel import Kernel

_MAX_SHAPES_BYTES = 1_000_000
_MAX_SHAPES = 100_000


def read_shapes(
    kernel: Kernel, shapes: Iterable[str], dims: Sequence[str] = (), file: Path | None = None
) -> list[tuple[int, ...]]:
    """Shapes given one by one, by named sizes, and in a file, each once.

    Args:
        kernel: whose problems they state.
        shapes: `64,128,254,254`, or of a kernel with named sizes one number for each.
        dims: `M=4096`, or `M=1,16,256` for several: every combination is a shape.
        file: one shape a line, as either of these; # starts a comment.

    Raises:
        UsageError: there are none, or the file cannot be read.
        ShapeError: one of them is no shape of this kernel.
    """
    found = [_checked(kernel, parse_shape(text)) for text in shapes]
    found += _named(kernel, dims) if dims else []
    if file is not None:
        found += _shapes_in(kernel, file)
    if not found:
        raise UsageError(f"give at least {_wanted(kernel)}")
    return list(dict.fromkeys(found))


def read_shape(kernel: Kernel, shape: str | None, dims: Sequence[str]) -> tuple[int, ...]:
    """The one shape that a command is about.

    Raises:
        UsageError: there is none, or more than one.
        ShapeError: it is no shape of this kernel.
    """
    found = read_shapes(kernel, [] if shape is None else [shape], dims)
    if len(found) > 1:
        raise UsageError(f"give one shape, not {len(found)}")
    return found[0]


def _wanted(kernel: Kernel) -> str:
    if kernel.sizes:
        return f"one problem: {' '.join(f'--dim {name}=…' for name in kernel.sizes)}"
    return "one --shape, such as --shape 64,128,254,254"


def _checked(kernel: Kernel, shape: tuple[int, ...]) -> tuple[int, ...]:
    if kernel.sizes and len(shape) != len(kernel.sizes):
        raise ShapeError(
            f"--shape {','.join(map(str, shape))}: {kernel.name} has the sizes "
            f"{', '.join(kernel.sizes)}, {len(kernel.sizes)} numbers; or give {_wanted(kernel)}"
        )
    return shape


def _named(kernel: Kernel, dims: Sequence[str]) -> list[tuple[int, ...]]:
    """Every combination of the sizes given by name."""
    if not kernel.sizes:
        raise UsageError(f"--dim: {kernel.name} has no named sizes; give {_wanted(kernel)}")
    values: dict[str, tuple[int, ...]] = {}
    for text in dims:
        name, _, numbers = text.partition("=")
        name = name.strip()
        if name not in kernel.sizes:
            raise UsageError(
                f"--dim {text!r:.100}: {kernel.name} has the sizes {', '.join(kernel.sizes)}; "
                f"give NAME=NUMBER, such as {kernel.sizes[0]}=4096"
            )
        try:
            # One by one: together they are no shape, whose size would be limited.
            sizes = [size for number in numbers.split(",") for size in parse_shape(number)]
            values[name] = (*values.get(name, ()), *sizes)
        except ShapeError:
            raise UsageError(
                f"--dim {text!r:.100}: expected positive integers, such as {name}=4096"
            ) from None
    if missing := [name for name in kernel.sizes if name not in values]:
        raise UsageError(f"--dim: {', '.join(missing)} is missing; give {_wanted(kernel)}")
    if sum(1 for _ in itertools.islice(_combined(kernel, values), _MAX_SHAPES + 1)) > _MAX_SHAPES:
        raise UsageError(f"--dim: expected at most {_MAX_SHAPES} combinations")
    # As text once more, for what a shape has to be as a whole.
    return [parse_shape(",".join(map(str, each))) for each in _combined(kernel, values)]


def _combined(kernel: Kernel, values: dict[str, tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(values[name] for name in kernel.sizes))


def _shapes_in(kernel: Kernel, file: Path) -> Iterator[tuple[int, ...]]:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_SHAPES_BYTES + 1)
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"--shapes {file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"--shapes {file}: expected UTF-8 text, byte {error.start} is none"
        ) from None
    if len(content) > _MAX_SHAPES_BYTES:
        raise UsageError(f"--shapes {file}: expected at most {_MAX_SHAPES_BYTES} bytes")
    for number, line in enumerate(lines, start=1):
        if text := line.partition("#")[0].strip():
            try:
                if "=" in text:
                    yield from _named(kernel, text.split())
                else:
                    yield _checked(kernel, parse_shape(text))
            except (ShapeError, UsageError) as error:
                raise ShapeError(f"--shapes {file}, line {number}: {error}") from None
