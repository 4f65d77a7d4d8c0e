"""Configurations in JSON: Triton's cache of an autotuning, tables by size, tunekit's exports."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeGuard

from tunekit.candidates.listed import MAX_CONFIGS, Contents, Listed, Near
from tunekit.errors import ImportFormatError
from tunekit.printable import one_line
from tunekit.store.fields import MAX_ITEMS, shown

MAX_JSON_BYTES = 4 * 1024 * 1024
"""Of a JSON file."""

_NO_VALUE = ("pre_hook", "ir_override")
"""Of a configuration what is no number: a function, and the name of a file."""
_MOST_DIGITS = 15
_LONGEST_NAME = 64
_MOST_NOTES = 10
_NUMBER = re.compile(r"\d+", re.ASCII)
_EXPORTS = ("tunekit-export/1", "tunekit-portfolio/1")


def parse_json(text: str) -> object:
    """What a JSON file says; Infinity and NaN, which Python writes for times, are let through.

    Raises:
        ImportFormatError: it is no JSON, or has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ImportFormatError(f"no JSON: {one_line(str(error))[:200]}") from None


def read_json(found: object) -> Contents:
    """The configurations of a JSON file.

    Args:
        found: what `parse_json` gave.

    Raises:
        ImportFormatError: it is none of the formats that are known, or holds no configuration.
    """
    if isinstance(found, Mapping) and "configs_timings" in found:
        contents = _autotuned(found)
    elif isinstance(found, Mapping) and "schema" in found:
        contents = _exported(found)
    elif isinstance(found, Mapping):
        contents = _table(found)
    elif isinstance(found, list):
        contents = _plain_list(found)
    else:
        raise ImportFormatError("expected a JSON object or a list of objects")
    if not contents.listed:
        why = f": {contents.notes[0]}" if contents.notes else ""
        raise ImportFormatError(f"holds no configuration{why}")
    if len(contents.listed) > MAX_CONFIGS:
        raise ImportFormatError(
            f"more than {MAX_CONFIGS} configurations; put those to be measured into a file of "
            "their own"
        )
    return contents


def _autotuned(found: Mapping[str, object]) -> Contents:
    """`NAME.autotune.json`, as Triton's autotuner writes it: pairs of a Config and its time, ms."""
    pairs = found["configs_timings"]
    if not isinstance(pairs, list):
        raise _wrong("configs_timings", "a list of pairs", pairs)
    timed: list[tuple[float, int, Mapping[str, object]]] = []
    for number, pair in enumerate(pairs, start=1):
        where = f"configs_timings {number}"
        if not isinstance(pair, list) or len(pair) != 2:
            raise _wrong(where, "a configuration and its time", pair)
        timed.append((_time_ms(pair[1], where), number, _config(pair[0], where)))
    timed.sort(key=lambda each: each[:2])
    listed = (
        Listed(values, f"entry {number}{_told(time_ms)}", "configs_timings")
        for time_ms, number, values in timed
    )
    return Contents("Triton's cache of an autotuning", tuple(listed))


def _time_ms(value: object, where: str) -> float:
    """The median, which is alone or the first of several quantiles; infinite where it failed."""
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, bool) or not isinstance(first, int | float):
        raise _wrong(where, "a time in ms", first)
    try:
        time_ms = float(first)
    except OverflowError:
        return math.inf
    return math.inf if math.isnan(time_ms) else time_ms


def _told(time_ms: float) -> str:
    return f", {time_ms:.4g} ms there" if math.isfinite(time_ms) else ", which failed there"


def _table(found: Mapping[str, object]) -> Contents:
    """A table of an inference engine: a configuration for each of several sizes.

    Or several such tables by name, as for the passes of an operation; each is a list.
    """
    listed: list[Listed] = []
    notes: list[str] = []
    own = {}
    for key, value in found.items():
        if _is_table(value):
            _entries_of(value, one_line(key)[:_LONGEST_NAME], listed, notes)
        else:
            own[key] = value
    _entries_of(own, "entries", listed, notes)
    if len(notes) > _MOST_NOTES:
        notes = [*notes[:_MOST_NOTES], f"{len(notes) - _MOST_NOTES} more keys are not read"]
    return Contents("a table of configurations", tuple(listed), tuple(notes))


def _is_table(value: object) -> TypeGuard[Mapping[str, object]]:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and "kwargs" not in value
        and all(isinstance(each, Mapping) for each in value.values())
    )


def _entries_of(
    table: Mapping[str, object], group: str, listed: list[Listed], notes: list[str]
) -> None:
    for key, value in table.items():
        if not isinstance(value, Mapping):
            if key != "triton_version":
                notes.append(f"{shown(key)} is not read: expected a configuration by name")
            continue
        where = f"entry {one_line(key)[:_LONGEST_NAME]}"
        size = _size_in(key)
        near = None if size is None else Near(size=size)
        listed.append(Listed(_config(value, where), where, group, near))


def _size_in(key: str) -> int | None:
    """16 of `16` and of `M_LEQ_16`; None where there is no number, or several."""
    numbers = _NUMBER.findall(key[:200])
    if len(numbers) != 1 or len(numbers[0]) > _MOST_DIGITS or int(numbers[0]) < 1:
        return None
    return int(numbers[0])


def _plain_list(found: Sequence[object]) -> Contents:
    """A list of configurations."""
    listed = tuple(
        Listed(_config(value, f"entry {number}"), f"entry {number}", "entries")
        for number, value in enumerate(found, start=1)
    )
    return Contents("a list of configurations", listed)


def _exported(found: Mapping[str, object]) -> Contents:
    """What `tunekit export --format json` writes, also with --portfolio."""
    schema = found["schema"]
    if schema not in _EXPORTS:
        raise _wrong("schema", " or ".join(_EXPORTS), schema)
    listed = tuple(_entries(found) if schema == _EXPORTS[0] else _portfolios(found))
    return Contents("an export of tunekit's", listed)


def _entries(found: Mapping[str, object]) -> Iterator[Listed]:
    for number, entry in enumerate(_objects(found, "entries"), start=1):
        where = f"entry {number}"
        dims = entry.get("dims")
        if not isinstance(dims, Mapping) or not all(_is_size(size) for size in dims.values()):
            raise _wrong(f"{where}: dims", "sizes by name", dims)
        near = Near(
            dims={str(name): int(size) for name, size in dims.items()},
            kernel=_text(entry, "kernel", where),
            dtype=_text(entry, "dtype", where),
            device=_text(entry, "device", where),
        )
        yield Listed(_config(entry.get("config"), where), where, near.kernel or "", near)


def _portfolios(found: Mapping[str, object]) -> Iterator[Listed]:
    for number, portfolio in enumerate(_objects(found, "portfolios"), start=1):
        where = f"portfolio {number}"
        kernel = _text(portfolio, "kernel", where)
        near = Near(kernel=kernel, device=_text(portfolio, "device", where))
        configs = portfolio.get("configs")
        if not isinstance(configs, list):
            raise _wrong(f"{where}: configs", "a list", configs)
        for place, config in enumerate(configs, start=1):
            yield Listed(_config(config, where), f"{where}, configuration {place}", kernel, near)


def _objects(found: Mapping[str, object], name: str) -> Iterator[Mapping[str, object]]:
    values = found.get(name)
    if not isinstance(values, list):
        raise _wrong(name, "a list", values)
    for number, value in enumerate(values, start=1):
        if not isinstance(value, Mapping):
            raise _wrong(f"{name} {number}", "an object", value)
        yield value


def _text(entry: Mapping[str, object], name: str, where: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise _wrong(f"{where}: {name}", "a text", value)
    return value


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**_MOST_DIGITS


def _config(value: object, where: str) -> dict[str, object]:
    """The values of a configuration by name, those of `kwargs` beside the others."""
    if not isinstance(value, Mapping):
        raise _wrong(where, "a configuration, an object of values by name", value)
    meta = value.get("kwargs", {})
    if not isinstance(meta, Mapping):
        raise _wrong(f"{where}: kwargs", "an object of values by name", meta)
    outer = {name: each for name, each in value.items() if name not in ("kwargs", *_NO_VALUE)}
    found = {**meta, **outer}
    if not 0 < len(found) <= MAX_ITEMS:
        raise _wrong(where, f"a configuration of 1 to {MAX_ITEMS} values", value)
    return found


def _wrong(where: str, expected: str, value: object) -> ImportFormatError:
    return ImportFormatError(f"{where}: expected {expected}, got {shown(value)}")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ImportFormatError(f"key {shown(twice)} appears twice")
    return found
