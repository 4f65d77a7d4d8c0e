"""What was checked, what a kernel refused, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tunekit.core.config import Config

_MOST_TOLD = 5
_MOST_FAULTS = 8
"""After so many nothing more is tried."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that the kernel does not take, by its own plan or space.

    Attributes:
        what: shape, layout or configuration.
        dtypes: those it was refused in.
        reason: what the kernel says.
    """

    what: str
    dtypes: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a check that found nothing wrong has done; as text it is a table.

    Attributes:
        kernel: its name.
        where: in Triton's interpreter, or on which GPU.
        dtypes, shapes, configs: what was checked, as text.
        checks: how many results were compared, for each kind of check.
        refused: what the kernel does not take, which is no failure.
        notes: what could not be checked, and why.
    """

    kernel: str
    where: str
    dtypes: tuple[str, ...]
    shapes: tuple[str, ...]
    configs: tuple[str, ...]
    checks: Mapping[str, int]
    refused: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def results(self) -> int:
        """How many results were compared."""
        return sum(self.checks.values())

    def __str__(self) -> str:
        rows = [
            ("dtypes", ", ".join(self.dtypes)),
            ("shapes", "; ".join(self.shapes)),
            ("configurations", f"{len(self.configs)}, the first {self.configs[0]}"),
            *((kind, str(count)) for kind, count in self.checks.items()),
            *(("refused", _told(each)) for each in self.refused),
            *(("note", note) for note in self.notes),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name:{width}}  {text}" for name, text in rows]
        title = f"{self.kernel} {self.where}: {self.results} results are right"
        return "\n".join([title, *lines])


def _told(refusal: Refusal) -> str:
    return f"{refusal.what} in {', '.join(refusal.dtypes)}: {refusal.reason}"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        what: of which check: configuration, layout, value.
        reason: what differs.
    """

    dtype: str
    shape: tuple[int, ...]
    shape_text: str
    config: Config | None
    what: str
    reason: str

    def __str__(self) -> str:
        config = f", {self.config}" if self.config is not None else ""
        return f"{self.dtype}, {self.shape_text}{config}, {self.what}: {self.reason}"


class EnoughError(Exception):
    """So much is wrong that nothing more has to be tried."""


@dataclass
class Ledger:
    """Counts what is checked and keeps what is wrong."""

    kernel: str
    where: str
    reproduce: str  # further arguments of the call
    dtypes: dict[str, None] = field(default_factory=dict)
    shapes: dict[str, None] = field(default_factory=dict)
    configs: dict[str, None] = field(default_factory=dict)
    checks: Counter[str] = field(default_factory=Counter)
    notes: dict[str, None] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    refusals: dict[str, tuple[dict[str, None], str]] = field(default_factory=dict)

    def refuse(self, what: str, dtype: str, reason: str) -> None:
        """Note what the kernel does not take."""
        self.refusals.setdefault(what, ({}, reason))[0][dtype] = None

    def blame(self, fault: Fault, *, fatal: bool = False) -> None:
        """Note what is wrong.

        Raises:
            EnoughError: nothing more is to be tried.
        """
        self.faults.append(fault)
        if fatal or len(self.faults) >= _MOST_FAULTS:
            raise EnoughError

    def report(self) -> Report:
        """What was done.

        Raises:
            AssertionError: something is wrong, or nothing could be checked.
        """
        refused = tuple(
            Refusal(what, tuple(dtypes), reason) for what, (dtypes, reason) in self.refusals.items()
        )
        if self.faults:
            raise AssertionError(self._message())
        if not self.checks:
            why = "; ".join(map(_told, refused)) or "no shape and no dtype was given"
            raise AssertionError(
                f"{self.kernel}: nothing could be checked {self.where}; give shapes= that it "
                f"takes ({why})"
            )
        return Report(
            self.kernel,
            self.where,
            tuple(self.dtypes),
            tuple(self.shapes),
            tuple(self.configs),
            dict(self.checks),
            refused,
            tuple(self.notes),
        )

    def _message(self) -> str:
        first, *others = self.faults
        lines = [f"{self.kernel} is wrong {self.where}: {first}", f"  {self._again(first)}"]
        lines += [f"  also: {each}" for each in others[:_MOST_TOLD]]
        if len(others) > _MOST_TOLD:
            lines.append(f"  and {len(others) - _MOST_TOLD} more")
        return "\n".join(lines)

    def _again(self, fault: Fault) -> str:
        """The call that finds it alone."""
        shape = f", shapes=[{fault.shape}]" if fault.shape else ""
        config = "" if fault.config is None else f", configs=[{dict(fault.config)}]"
        return (
            f"to reproduce: tunekit.testing.check_kernel({self.kernel}{shape}, "
            f"dtypes=[{fault.dtype!r}]{config}{self.reproduce})"
        )
