from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunekit import paths


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder in a repository of its own."""
    folder = tmp_path / "repo" / "tunekit"
    folder.mkdir(parents=True)
    monkeypatch.setattr(paths, "_PACKAGE", folder)
    return folder


def test_an_installed_package_carries_its_database(package: Path) -> None:
    for folder in (package, package.parent):
        (folder / "studies.db").touch()
    assert paths.shipped_database() == package / "studies.db"


def test_a_checkout_has_it_at_the_top(package: Path) -> None:
    assert paths.shipped_database() == package.parent / "studies.db"


def test_the_users_database_is_in_the_data_folder_and_nothing_is_created(
    isolated_home: Path,
) -> None:
    database = paths.user_database()
    assert database.is_relative_to(isolated_home)
    assert (database.parent.name, database.name) == ("tunekit", "studies.db")
    assert not any(isolated_home.iterdir())


def test_tunekit_db_names_another(monkeypatch: pytest.MonkeyPatch, isolated_home: Path) -> None:
    monkeypatch.setenv("TUNEKIT_DB", "~/mine.db")
    assert paths.user_database() == isolated_home / "mine.db"


def test_an_empty_tunekit_db_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEKIT_DB", "")
    assert paths.user_database().name == "studies.db"


def test_platformdirs_is_not_needed_for_a_named_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    monkeypatch.setenv("TUNEKIT_DB", "mine.db")
    assert paths.user_database() == Path("mine.db")


def test_logs_are_in_the_state_folder_or_where_tunekit_log_says(
    monkeypatch: pytest.MonkeyPatch, isolated_home: Path
) -> None:
    folder = paths.log_folder()
    assert folder is not None
    assert folder.is_relative_to(isolated_home)
    monkeypatch.setenv("TUNEKIT_LOG", "~/logs")
    assert paths.log_folder() == isolated_home / "logs"
    monkeypatch.setenv("TUNEKIT_LOG", "/dev/null")
    assert paths.log_folder() is None
    assert not any(isolated_home.iterdir())
