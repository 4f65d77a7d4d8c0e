"""Lists of `triton.Config` in a Python file, which is parsed and never run."""

from __future__ import annotations

import ast
import warnings

from tunekit.candidates.listed import MAX_CONFIGS, Contents, Listed
from tunekit.candidates.statements import Statements
from tunekit.candidates.values import Made, made_in
from tunekit.errors import ImportFormatError
from tunekit.printable import one_line

MAX_PYTHON_BYTES = 512 * 1024
"""Of a Python file: its syntax tree is hundreds of times as large."""

_MAX_NOTES = 20


def read_python(text: str) -> Contents:
    """The lists of configurations of a Python file.

    Args:
        text: of the file.

    Raises:
        ImportFormatError: it is no Python, or nothing in it can be read.
    """
    if len(text) > MAX_PYTHON_BYTES:
        raise ImportFormatError(f"a Python file of more than {MAX_PYTHON_BYTES} characters")
    notes: dict[tuple[int, str], None] = {}
    try:
        statements = Statements(_parsed(text), lambda line, why: notes.setdefault((line, why)))
        statements.follow()
        listed = _listed(statements)
    except RecursionError:
        raise ImportFormatError("not read: what it says is nested too deeply") from None
    told = [f"line {line}: {one_line(reason)[:160]}" for line, reason in sorted(notes)]
    if not listed:
        why = f": {told[0]}" if told else ""
        raise ImportFormatError(
            f"no list of triton.Config that can be read without running it{why}"
        )
    if len(told) > _MAX_NOTES:
        told = [*told[:_MAX_NOTES], f"{len(told) - _MAX_NOTES} more places are not read"]
    return Contents("Python", tuple(listed), tuple(told))


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in texts, for one
        try:
            return ast.parse(text)
        except SyntaxError as error:
            raise ImportFormatError(
                f"line {error.lineno or 0}: no Python: {one_line(str(error.msg))[:100]}"
            ) from None
        except (ValueError, RecursionError, MemoryError) as error:
            why = one_line(str(error))[:100] or "nested too deeply"
            raise ImportFormatError(f"no Python: {why}") from None


def _listed(statements: Statements) -> list[Listed]:
    """Each configuration of each list once; of a list that is bound again what it last had."""
    groups: dict[str, dict[int, Made]] = {}
    for name, value in statements.bindings:
        found = {id(each): each for each in made_in(value, statements.budget)}
        before = groups.get(name, {})
        # What `filter` left out is out; what another branch or call made is not.
        groups[name] = found if found.keys() <= before.keys() else {**before, **found}
        if sum(map(len, groups.values())) > MAX_CONFIGS:
            raise ImportFormatError(
                f"more than {MAX_CONFIGS} configurations; put those to be measured into a file of "
                "their own"
            )
    return [
        Listed({**each.meta, **each.options}, f"line {each.line}", name)
        for name, group in groups.items()
        for each in group.values()
    ]
