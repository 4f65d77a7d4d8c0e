"""Text is written whole or not at all, and what cannot be written is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunekit.errors import TunekitError
from tunekit.store.files import write_text


def test_a_link_keeps_pointing_at_its_file(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, ["new", "er"])
    assert link.is_symlink()
    assert target.read_text() == "newer"


def test_links_that_go_round_in_circles(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    try:
        write_text(tmp_path / "a", ["text"])
    except TunekitError as error:
        assert "cannot write" in str(error)  # noqa: PT017 - to replace a link is as good


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "absent/below", ""])
def test_a_path_that_cannot_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(TunekitError, match="cannot write"):
        write_text(tmp_path / name, ["text"])
    assert list(tmp_path.iterdir()) == []
