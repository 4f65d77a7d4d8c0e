"""`tunekit prune`, and what `tunekit doctor --salvage` writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tunekit.cli import main
from tunekit.paths import shipped_database
from tunekit.store.cache import read_cache
from tunekit.store.claims import claim
from tunekit.store.database import Store


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two problems, and of each an evaluation that no decision rests on."""
    path = tmp_path / "mine.db"
    monkeypatch.setenv("TUNEKIT_DB", str(path))
    with (
        Store.open(shipped_database(), readonly=True, immutable=True) as shipped,
        Store.open(path) as store,
    ):
        for name in ("identity", "mish_mish"):
            decision = shipped.decisions(kernel=name, device="h100")[0]
            rows = shipped.evaluations(decision.problem, source=decision.source)
            spare = [
                replace(row, time_us=99.0 + number, samples_us=(99.0,) * 600)
                for number, row in enumerate(rows)
            ]
            store.add([*rows, *spare])
            store.decide(decision)
    return path


def test_prune(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = read_cache(database)
    size = database.stat().st_size
    assert main(["prune", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dry_run"] is True
    assert told["dropped"]["evaluations"] > 0
    assert database.stat().st_size == size
    assert main(["prune"]) == 0
    said = capsys.readouterr().out.splitlines()
    dropped, kept = told["dropped"]["evaluations"], told["kept"]["evaluations"]
    assert said[0] == (
        f"{database}: dropped {dropped} of {dropped + kept} evaluations, 0 of 2 decisions and "
        "0 of 2 problems"
    )
    assert said[1].endswith(" after")
    assert read_cache(database) == cache != []
    assert database.stat().st_size == told["after_bytes"] < size
    assert main(["prune", "--json"]) == 0
    assert not any(json.loads(capsys.readouterr().out)["dropped"].values())


def test_prune_one_kernel(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune", "identity", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)["dropped"]["evaluations"]
    assert main(["prune", "--json"]) == 0
    assert one > 0 < json.loads(capsys.readouterr().out)["dropped"]["evaluations"]


def test_prune_nothing_of_the_last_days(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune", "--older-than", "999999", "--dry-run"]) == 0
    assert f"{database}: would drop 0 of " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--db", "none.db"], 1, "none.db: no such database"),
        (["--older-than", "-1"], 2, "--older-than"),
        (["--older-than", "nan"], 2, "--older-than"),
        (["--older-than", "1e300"], 2, "--older-than"),
    ],
)
def test_what_cannot_be_pruned(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["prune", *arguments]) == status
    ended = capsys.readouterr()
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "none.db").exists()


def test_prune_waits_for_nobody(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with claim(database, "work", "work"):
        assert main(["prune"]) == 1
    assert "another process is tuning into it" in capsys.readouterr().err


def test_salvage(database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open(database, readonly=True) as store:
        rows, decisions = store.evaluations(), store.decisions()
    data = database.read_bytes()
    database.write_bytes(bytes(4096) + data[4096:])
    damaged = database.read_bytes()
    assert main(["show"]) == 1
    assert f"`tunekit doctor --db {database}`" in capsys.readouterr().err
    new = tmp_path / "saved.db"
    assert main(["doctor", "--salvage", str(new)]) == 0
    assert capsys.readouterr().out == (
        f"{new}: {len(rows)} evaluations and 2 decisions, saved of {database}, which is as it was\n"
    )
    with Store.open(new, readonly=True) as store:
        assert (store.evaluations(), store.decisions()) == (rows, decisions)
    assert database.read_bytes() == damaged
    assert main(["doctor", "--salvage", str(new)]) == 1
    assert f"{new}: is there already" in capsys.readouterr().err
    assert main(["doctor", "--salvage", str(tmp_path / "again.db"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["evaluations"] == len(rows)


def test_salvage_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for damaged in (tmp_path, tmp_path / "absent"):
        assert main(["doctor", "--db", str(damaged), "--salvage", str(tmp_path / "new.db")]) == 1
        assert f"{damaged}: cannot read" in capsys.readouterr().err
    assert not (tmp_path / "new.db").exists()
