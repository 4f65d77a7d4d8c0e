from __future__ import annotations

import launch
import pytest
import torch

import tunekit
from tunekit.runtime import recording


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(launch, "BLOCKS", 3)
    monkeypatch.setattr(launch, "CALLS", 5)


@pytest.mark.usefixtures("few")
def test_recording_is_on_in_its_own_blocks_alone() -> None:
    seen: dict[str, list[bool]] = {launch.OP: [], launch.RECORDED: []}
    calls = {
        name: lambda is_on=is_on: is_on.append(recording.is_on()) for name, is_on in seen.items()
    }
    found = launch.timed_us(calls, {launch.RECORDED: tunekit.record})
    assert {name: len(blocks) for name, blocks in found.items()} == dict.fromkeys(seen, 3)
    assert len(seen[launch.OP]) == len(seen[launch.RECORDED]) == 3 * (5 + launch.KNOWN_AFTER)
    assert not any(seen[launch.OP])
    assert all(seen[launch.RECORDED])


def test_what_recording_adds_is_compared_within_a_turn() -> None:
    # The clock changes from turn to turn; the difference does not.
    found = {launch.OP: [8.0, 9.0, 16.0], launch.RECORDED: [8.25, 9.25, 16.5]}
    assert launch.recording_us(found) == 0.25
