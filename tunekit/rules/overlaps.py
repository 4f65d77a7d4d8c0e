"""Which programs touch the same elements, and which program touches them more than once."""

from __future__ import annotations

import numpy as np

from tunekit.rules.elements import distinct
from tunekit.rules.ranges import Array
from tunekit.rules.sample import Sample
from tunekit.rules.ttir import Op

_LOOKED_AT = 24
"""Programs whose accesses are compared with each other one by one."""
_EVENTS = 64
"""Executions of one program that are."""


def looked_at(sample: Sample) -> list[int]:
    """Indices of programs to look at in detail: the first of the sample, and the last, at edges."""
    count = len(sample.numbers)
    if count <= _LOOKED_AT:
        return list(range(count))
    return [*range(_LOOKED_AT // 2), *range(count - _LOOKED_AT // 2, count)]


def repeated(
    sample: Sample, kind: str, least_share: float = 0.0
) -> tuple[int, list[Op], int] | None:
    """What one program accesses again: in which memory, where, how often; None if nothing.

    Only what is at least `least_share` of all that the program accesses: a scalar loaded twice is
    nothing.
    """
    events = sample.known((kind,))
    for program in looked_at(sample):
        parts = [
            (event.memory, event.op, distinct(sample.touched(index, program).offsets))
            for index, event in events
        ]
        total = sum(len(offsets) for _, _, offsets in parts)
        for memory in dict.fromkeys(memory for memory, _, _ in parts):
            own = [(op, offsets) for of, op, offsets in parts if of == memory]
            everything = np.sort(np.concatenate([offsets for _, offsets in own]))
            again = distinct(everything[1:][everything[1:] == everything[:-1]])
            if memory is None or not len(again) or len(again) < least_share * total:
                continue
            where = [op for op, offsets in own if np.isin(again, offsets, kind="sort").any()]
            times = np.searchsorted(everything, again, side="right")
            times -= np.searchsorted(everything, again, side="left")
            return memory, where, int(times.max())
    return None


def loaded_after_stored(sample: Sample) -> tuple[int, Op, Op] | None:
    """A load of what the same program stored before: memory, load, store."""
    for program in looked_at(sample):
        stored: list[tuple[int, Op, Array]] = []
        for index, event in sample.known(("load", "store"))[: 2 * _EVENTS]:
            offsets = sample.touched(index, program).offsets
            if event.memory is None or not len(offsets):
                continue
            if event.kind == "store":
                stored.append((event.memory, event.op, offsets))
                continue
            for memory, op, written in stored:
                if memory == event.memory and len(np.intersect1d(offsets, written)):
                    return memory, event.op, op
    return None


def stored_by_several(sample: Sample) -> tuple[int, list[Op]] | None:
    """What more than one of the programs followed store: memory, stores."""
    for memory, stores in _stored(sample).items():
        everything, _ = _owners(sample, memory)
        if (everything[1:] == everything[:-1]).any():
            return memory, stores
    return None


def loaded_by_others(sample: Sample) -> tuple[int, Op, Op] | None:
    """A load of what another of the programs followed stores: memory, load, store."""
    for memory, stores in _stored(sample).items():
        everything, owner = _owners(sample, memory)
        programs = _different(sample)
        if not len(everything):
            continue
        for index, event in sample.known(("load",)):
            if event.memory != memory:
                continue
            for program in programs:
                offsets = sample.touched(index, program).offsets
                at = np.minimum(np.searchsorted(everything, offsets), len(everything) - 1)
                if ((everything[at] == offsets) & (owner[at] != program)).any():
                    return memory, event.op, stores[0]
    return None


def _stored(sample: Sample) -> dict[int, list[Op]]:
    found: dict[int, list[Op]] = {}
    for _, event in sample.known(("store",)):
        if event.memory is not None and event.op not in found.setdefault(event.memory, []):
            found[event.memory].append(event.op)
    return found


def _owners(sample: Sample, memory: int) -> tuple[Array, Array]:
    """Elements that are stored, in order, and the program that stores each."""
    programs = _different(sample)
    parts = [distinct(sample.everything("store", memory, [each])) for each in programs]
    everything = np.concatenate(parts)
    owner = np.repeat(np.array(programs), [len(each) for each in parts])
    order = np.argsort(everything, kind="stable")
    return everything[order], owner[order]


def _different(sample: Sample) -> list[int]:
    """Indices of programs, each program once: one drawn at random may come again."""
    first = {number: index for index, number in reversed(list(enumerate(sample.numbers)))}
    return sorted(first.values())
