"""What `tunekit check` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tunekit.report import Console

if TYPE_CHECKING:
    from tunekit.rules.check import Checked
    from tunekit.rules.finding import Finding

_LABEL = 17
"""Characters of the first column."""
_PLACES = 3
_WIDEST = 100
"""Characters of a line at most: longer ones are hard to read."""
_STYLES = {"broken": "bold red", "undecided": "bold yellow", "ok": "bold green"}


def print_checked(
    console: Console, checked: Checked, shape: Sequence[int], dtype: str, whose: str
) -> None:
    """The findings, those first that need a reader, and what no compiled kernel shows."""
    from tunekit.rules.check import UNSEEN
    from tunekit.rules.finding import Verdict

    width = min(console.width, _WIDEST) if console.width < 1000 else console.width
    size = checked.kernel.shape_text(shape)
    console.say(f"{checked.kernel.name}  {size}  {dtype}  for {checked.device.names[0]}", "bold")
    for label, text in _about(checked, whose):
        _say_wrapped(console, label, text, width)
    for verdict in (Verdict.BROKEN, Verdict.UNDECIDED, Verdict.OK):
        if found := checked.of(verdict):
            console.say("")
            console.say(str(verdict), _STYLES[verdict])
        for finding in found:
            for line in _finding_lines(finding, width, short=verdict is Verdict.OK):
                console.say(line)
    console.say("")
    console.say("not to be seen in a compiled kernel", "bold")
    for text in UNSEEN:
        for line in _filled(text, width, "  ", "  "):
            console.say(line)
    console.say("")
    console.say(_count(checked))


def _about(checked: Checked, whose: str) -> Iterator[tuple[str, str]]:
    yield "configuration", f"{checked.config} ({whose})"
    grid = " × ".join(map(str, checked.launch.grid(checked.config)))
    yield "grid", f"{grid}; {checked.followed} followed lane by lane"


def _finding_lines(finding: Finding, width: int, *, short: bool) -> Iterator[str]:
    """The sentence, then what was read and where; of what is as it should be less."""
    if short:
        fact = f" ({finding.fact})" if finding.fact else ""
        yield from _wrapped(finding.rule, finding.says.removesuffix(".") + fact, width)
        return
    yield from _wrapped(finding.rule, finding.says, width)
    if finding.fact:
        yield from _wrapped("", finding.fact, width)
    if finding.places:
        more = len(finding.places) - _PLACES
        places = ", ".join(finding.places[:_PLACES]) + (f" and {more} more" if more > 0 else "")
        yield from _wrapped("", places, width)


def _count(checked: Checked) -> str:
    from tunekit.rules.finding import Verdict

    counts = [f"{len(checked.of(each))} {each}" for each in Verdict if checked.of(each)]
    return f"{len(checked.findings)} rules: {', '.join(counts)}"


def _say_wrapped(console: Console, label: str, text: str, width: int) -> None:
    for line in _wrapped(label, text, width):
        console.say(line)


def _wrapped(label: str, text: str, width: int) -> list[str]:
    """A label, then text in a column of its own."""
    return _filled(text, width, f"  {label:<{_LABEL}}", " " * (_LABEL + 2))


def _filled(text: str, width: int, first: str, later: str) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )
