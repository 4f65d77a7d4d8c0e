"""Which counters are the same."""

from __future__ import annotations

from dataclasses import replace

from tunekit.core.counter import Counter

ONE = Counter("0" * 24, "dram__bytes.sum", 3.0, "byte", "a tool 1.0", "2026-01-31T12:00:00Z")


def test_a_whole_number_is_the_float_it_will_be() -> None:
    assert ONE.uid == replace(ONE, value=3).uid
    assert replace(ONE, value=-0.0).uid == replace(ONE, value=0).uid


def test_everything_counts() -> None:
    others = [
        replace(ONE, evaluation="1" * 24),
        replace(ONE, name="l2"),
        replace(ONE, value=3.5),
        replace(ONE, unit="kbyte"),
        replace(ONE, tool="a tool 1.1"),
        replace(ONE, created_at="2026-01-31T12:00:01Z"),
    ]
    assert len({ONE.uid, *(other.uid for other in others)}) == 7
