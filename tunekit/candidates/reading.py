"""Reading a file of configurations, whatever kind of file it is; it is never run."""

from __future__ import annotations

from pathlib import Path

from tunekit.candidates.json_file import MAX_JSON_BYTES, parse_json, read_json
from tunekit.candidates.listed import Contents
from tunekit.candidates.python_file import MAX_PYTHON_BYTES, read_python
from tunekit.errors import ImportFormatError
from tunekit.store.lines import parse_object

_EVALUATION_KEYS = frozenset({"kernel", "config", "status"})


def read_configs(path: Path) -> Contents:
    """The configurations of a Python or JSON file; what it holds says which it is, not its name.

    Raises:
        ImportFormatError: it cannot be read, is neither, or has none; the message names the file.
    """
    try:
        return read_text(_text(path))
    except ImportFormatError as error:
        raise ImportFormatError(f"{path}: {error}") from None


def holds_evaluations(text: str) -> bool:
    """Whether a text is lines of evaluations rather than a file of configurations."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    try:
        found = parse_object(first)
    except ImportFormatError:
        return False
    return "record" in found or found.keys() >= _EVALUATION_KEYS


def read_text(text: str) -> Contents:
    """The configurations that the text of a Python or JSON file has.

    Raises:
        ImportFormatError: it is neither, or has none.
    """
    if holds_evaluations(text):
        raise ImportFormatError(
            "holds evaluations, which say what they are of: leave --kernel and what goes with it "
            "away"
        )
    if text.lstrip()[:1] in ("{", "["):
        return read_json(parse_json(text))
    return read_python(text)


def _text(path: Path) -> str:
    """The text of a file that may be as large as a JSON file."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_JSON_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ImportFormatError(
            f"cannot read: {getattr(error, 'strerror', None) or error}"
        ) from None
    if len(content) > MAX_JSON_BYTES:
        raise ImportFormatError(
            f"larger than {MAX_JSON_BYTES} bytes, which a JSON file may have; a Python file may "
            f"have {MAX_PYTHON_BYTES}"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ImportFormatError(f"expected UTF-8 text, byte {error.start} is none") from None
