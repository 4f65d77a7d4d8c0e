"""A configuration in a race: its timer, and copies of its code in other places of the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tunekit.evaluate.rotation import Rotation
from tunekit.evaluate.timer import Launch, Timer


@dataclass(frozen=True)
class Racer:
    """Who takes part.

    Attributes:
        timer: its samples.
        copies: launches of one and the same code, loaded so many times.
    """

    timer: Timer
    copies: tuple[Launch, ...]

    @classmethod
    def ready(cls, copies: Sequence[Launch], rotation: Rotation) -> Racer:
        """One whose code is loaded: it cannot be while a graph is captured."""
        for launch in copies[1:]:
            launch(0)
        return cls(Timer(copies[0], rotation), tuple(copies))


def lay_out_anew(racers: Sequence[Racer], random: Random) -> None:
    """Move everyone's graph and code, so that luck with a place lasts for one round.

    That where things lie is part of what is measured, and that drawing it anew makes an error of
    it that more rounds reduce, is Curtsinger and Berger, STABILIZER, ASPLOS 2013.
    """
    for racer in racers:
        racer.timer.release()
    for racer in random.sample(racers, len(racers)):
        racer.timer.renew(random.choice(racer.copies))
