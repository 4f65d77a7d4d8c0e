"""What a rule says where not everything could be followed."""

from __future__ import annotations

from collections.abc import Sequence

from tunekit.rules.finding import Finding, Verdict, places_of
from tunekit.rules.subject import Subject
from tunekit.rules.ttir import Op


def doubts_of(subject: Subject, *kinds: str) -> str:
    """What could not be followed, accesses of these kinds among it, as a sentence."""
    stopped = subject.sample.trace.stopped or subject.survey.stopped
    unknown = dict.fromkeys((each.kind, each.why) for each in subject.unknown(*kinds))
    doubts = [f"where a {kind} goes depends on {why}" for kind, why in unknown]
    doubts += [*subject.doubts, *([stopped] if stopped else [])]
    return f"Not everything could be followed: {'; '.join(doubts) or 'nothing is accessed'}."


def ok_unless_doubtful(
    subject: Subject, rule: str, kinds: Sequence[str], says: str, fact: str
) -> Finding:
    """Ok, unless an access of these kinds could not be followed; says of how many programs.

    Args:
        subject: what the rule was held against.
        rule: its name.
        kinds: of accesses that the rule is about.
        says: what is so: a sentence without its full stop.
        fact: what was read.
    """
    places = places_of(each.op for each in subject.reaches(*kinds))
    if subject.unknown(*kinds) or not subject.sample.is_complete:
        return Finding(rule, Verdict.UNDECIDED, doubts_of(subject, *kinds), fact, places)
    if subject.sample.is_all:
        return Finding(rule, Verdict.OK, f"{says}.", fact, places)
    says = f"{says}, in the programs followed."
    return Finding(rule, Verdict.OK, says, f"{fact}; {subject.followed()} followed", places)


def broken(rule: str, says: str, fact: str, ops: Sequence[Op]) -> Finding:
    """A rule that is broken at these operations."""
    return Finding(rule, Verdict.BROKEN, says, fact, places_of(ops))
