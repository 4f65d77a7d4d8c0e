"""Where in the source an operation comes from, by the compiler's debug locations."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ALIAS = re.compile(r"^(#loc\d*) = loc\((.*)\)$")
_FILE = re.compile(r'^"((?:[^"\\]|\\.)*)":(\d+):(\d+)')
_NAMED = re.compile(r'^"(?:[^"\\]|\\.)*"\((.*)\)$')


@dataclass(frozen=True, slots=True)
class Frame:
    """A line of source."""

    file: str
    line: int
    column: int

    @property
    def name(self) -> str:
        """The file without its folders."""
        return os.path.basename(self.file)


@dataclass(frozen=True, slots=True)
class Place:
    """Frames, the innermost first: what was inlined, then who called it."""

    frames: tuple[Frame, ...]

    @property
    def key(self) -> tuple[tuple[str, int, int], ...]:
        """What PTX says of the same place: there a file is its name alone."""
        return tuple((each.name, each.line, each.column) for each in self.frames)

    def __str__(self) -> str:
        """`mine.py:12`: the innermost line that is not Triton's own; empty where none is known."""
        own = [each for each in self.frames if not _is_tritons(each.file)]
        frames = own or list(self.frames)
        return f"{frames[0].name}:{frames[0].line}" if frames else ""


@cache
def _tritons_folder() -> str:
    import triton

    return str(Path(triton.__file__).parent)


def _is_tritons(file: str) -> bool:
    return file.startswith(_tritons_folder()) or "/triton/language/" in file


@dataclass(frozen=True)
class Places:
    """Locations by alias, resolved when read."""

    aliases: dict[str, str]

    @classmethod
    def of(cls, lines: Iterable[str]) -> Places:
        """The aliases that a module defines."""
        matches = map(_ALIAS.match, lines)
        return cls({match[1]: match[2] for match in matches if match is not None})

    def read(self, text: str) -> Place:
        """The place that the inside of a `loc(…)` stands for."""
        return Place(tuple(self._frames(text, frozenset())))

    def _frames(self, text: str, within: frozenset[str]) -> list[Frame]:
        """Of a location inside those aliases: one that is its own part is none."""
        text = text.strip()
        if text in within:
            return []
        if text.startswith("#"):
            return self._frames(self.aliases.get(text, "unknown"), within | {text})
        if text.startswith("callsite("):
            callee, _, caller = _split_at(text.removeprefix("callsite(")[:-1])
            return self._frames(callee, within) + self._frames(caller, within)
        if (match := _FILE.match(text)) is not None:
            return [Frame(match[1], int(match[2]), int(match[3]))]
        if (match := _NAMED.match(text)) is not None:
            return self._frames(match[1], within)
        if text.startswith("fused"):
            inner = text.partition("[")[2].rpartition("]")[0]
            return self._frames(inner.partition(",")[0], within)
        return []


def _split_at(text: str) -> tuple[str, str, str]:
    """`callee at caller`, at the ` at ` that is in no bracket and no quotes."""
    depth, quoted = 0, False
    for index, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif not quoted:
            depth += (char == "(") - (char == ")")
            if depth == 0 and text.startswith(" at ", index):
                return text[:index], " at ", text[index + 4 :]
    return text, "", ""
