"""What is said of a wrong search space, on one line whatever its file held."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping

from tunekit.core.expression import VALUE_LIMIT
from tunekit.errors import SpaceError
from tunekit.printable import one_line


def space_error(origin: str, key: str, what: str) -> SpaceError:
    """`origin: key: what`, on one line whatever the file held."""
    return SpaceError(one_line(": ".join(part for part in (origin, key, what) if part)))


def no_such(name: str, kind: str, known: Iterable[str]) -> str:
    """No such name, the nearest one, and all there are."""
    known = list(known)
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    return f"there is no {kind} {key_shown(name)}{hint}, expected one of: {listed(known) or 'none'}"


def where_of(names: Iterable[str], values: Mapping[str, int]) -> str:
    """The end of a message that says what the names stood for."""
    pairs = listed(f"{name}={values[name]}" for name in sorted(names))
    return f", where {pairs}" if pairs else ""


def listed(items: Iterable[object]) -> str:
    """All of them, with commas."""
    return ", ".join(map(str, items))


class _Short(reprlib.Repr):
    """A `repr` of bounded length and depth, of any value that TOML can hold."""

    def repr_int(self, x: int, level: int) -> str:
        # `str` of an integer of thousands of digits raises.
        return repr(x) if abs(x) < VALUE_LIMIT else "an integer beyond 63 bits"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 60


def shown(value: object) -> str:
    """A value of the file, of bounded length."""
    return _SHORT.repr(value)


def key_shown(name: str) -> str:
    """A key as it is, unless it is long or would be misread."""
    return name if name.isidentifier() and len(name) <= 60 else shown(name)
