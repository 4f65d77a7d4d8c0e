"""Why a call is served what it is: its problem field by field, and each row held against it."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import triton

from tunekit import gpu
from tunekit.core.device import DEVICES, Device
from tunekit.core.problem import Problem
from tunekit.errors import SpaceError, StoreError
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch
from tunekit.notices import TunekitWarning
from tunekit.paths import shipped_database, user_database
from tunekit.runtime import advice, lookup
from tunekit.runtime.call import EAGER, INTERPRETED
from tunekit.runtime.lookup import Choice, Served
from tunekit.runtime.verdict import Candidate, Database, Judge, Verdict, dims_text, rank
from tunekit.store.cache import CacheRow, read_cache


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a call is served, and what became of each row of its kernel.

    Attributes:
        choice: what is served, and the problem that was asked about.
        why: of the choice, in words.
        databases: those looked into, in this order.
        candidates: every row, those first that differ in the fewest fields, then in the order they
            may serve in, then by size.
        notes: what else decides about calls here, a sentence each.
        advice: what to do so that a row of this very problem serves; empty if there is nothing.
        command: the command line that does it; empty if there is none.
    """

    choice: Choice
    why: str
    databases: tuple[Database, ...]
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]
    advice: str
    command: str


def explain(
    kernel: Kernel, launch: Launch, device: Device, database: Path | None = None
) -> Explanation:
    """Why a launch is served what it is. The databases are read anew.

    Args:
        kernel: what is launched.
        launch: its plan; tensors may be misaligned.
        device: the GPU it would run on.
        database: read in place of the person's own.

    Raises:
        SpaceError: nothing is tuned and the space has no default here.
    """
    usual = user_database()
    with _in_place_of_the_persons(database):
        order = _order(kernel, launch, device)
        read = list(_read_databases(kernel, "given by --db" if database else _named_by()))
    databases = tuple(each for each, _ in read)
    everything = [row for _, rows in read for row in rows]
    judge = Judge(kernel, launch, device, order, everything, _versions_here(device))
    candidates = [judge.candidate(row, found) for found, rows in read for row in rows]
    candidates.sort(key=rank)
    served = next((each for each in candidates if each.verdict is Verdict.SERVED), None)
    notes = [*_notes_about_here(device)]
    if database is not None and not _same(database, usual):
        notes.append(
            f"calls read {database} only where TUNEKIT_DB names it; here they read {usual}"
        )
    remedy, command = _advice(kernel, launch, device, order[0], served)
    if command and database is not None:
        command += f" --db {shlex.quote(str(database))}"
    return Explanation(
        order[0],
        _why(order[0], kernel, candidates),
        databases,
        tuple(candidates),
        tuple(notes),
        remedy,
        command,
    )


def _order(kernel: Kernel, launch: Launch, device: Device) -> list[Choice]:
    """What may be served, best first; at least one."""
    choices = lookup.choices(kernel, launch, device)
    with warnings.catch_warnings():  # that a database cannot be read is told with the databases
        warnings.simplefilter("ignore", TunekitWarning)
        order = [next(choices)]
        with suppress(SpaceError):  # no default here: the rows are all there is
            order.extend(choices)
    return order


@contextmanager
def _in_place_of_the_persons(database: Path | None) -> Iterator[None]:
    """Meanwhile look-ups read that file as the person's; nothing is known of earlier ones."""
    before = os.environ.get("TUNEKIT_DB")
    if database is not None:
        os.environ["TUNEKIT_DB"] = str(database)
    lookup.forget()
    try:
        yield
    finally:
        if database is not None:
            lookup.forget()
            del os.environ["TUNEKIT_DB"]
            if before is not None:
                os.environ["TUNEKIT_DB"] = before


def _named_by() -> str:
    return (
        "named by TUNEKIT_DB"
        if os.environ.get("TUNEKIT_DB")
        else "TUNEKIT_DB is not set: the one in your data folder"
    )


def _read_databases(kernel: Kernel, named_by: str) -> Iterator[tuple[Database, list[CacheRow]]]:
    person, shipped = user_database(), shipped_database()
    yield _read(kernel, "yours", person, named_by, immutable=False)
    if not _same(person, shipped):
        yield _read(kernel, "shipped", shipped, "comes with tunekit", immutable=True)


def _read(
    kernel: Kernel, whose: str, path: Path, named_by: str, *, immutable: bool
) -> tuple[Database, list[CacheRow]]:
    rows: list[CacheRow] = []
    try:
        rows = read_cache(path, kernel=kernel.name, immutable=immutable)
        trouble = "" if os.path.exists(path) else "no such file"
    except StoreError as error:
        trouble = str(error).removeprefix(f"{path}: ")
    return Database(whose, path, named_by, len(rows), trouble), rows


def _same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return first.absolute() == second.absolute()


def _why(choice: Choice, kernel: Kernel, candidates: Sequence[Candidate]) -> str:
    row = choice.row
    if row is None:
        why = _why_none(choice.problem, candidates)
        return f"{why}; so the default of the space {kernel.space_name}"
    same = row.problem.dims == choice.problem.dims
    size = "this very size" if same else f"{dims_text(row.problem)}, the nearest that suits"
    time = f"{row.time_us:.2f} µs"
    match choice.served:
        case Served.EXACT:
            return f"measured for this very problem on {row.provenance.gpu_name}, {time}"
        case Served.NEAREST:
            asked = dims_text(choice.problem)
            return f"nothing measured at {asked} fits: measured at {size}; {time} there"
        case _:
            return f"nothing measured fits: estimated for {size}; {time}, never run on that GPU"


def _why_none(problem: Problem, candidates: Sequence[Candidate]) -> str:
    """Why none of the rows serves: what none of them has, if there is such a field."""
    if not candidates:
        return f"no row of {problem.kernel} in any database"
    differing = [{each.field for each in candidate.differs} for candidate in candidates]
    nowhere = set.intersection(*differing) - {"dims"}
    if "kernel_hash" in nowhere:
        return f"none of {len(candidates)} rows is of this version of the kernel's source"
    if nowhere:
        fields = ", ".join(f"{name} {getattr(problem, name)}" for name in sorted(nowhere))
        return f"none of {len(candidates)} rows is of {fields}"
    if any(candidate.verdict is Verdict.NEXT for candidate in candidates):
        return "the rows of other sizes are of so much smaller ones that this goes before them"
    return "no row has all fields of the problem and a configuration that fits here"


def _versions_here(device: Device) -> dict[str, str]:
    """What a call would run under, as far as this machine tells."""
    versions = {"Triton": triton.__version__}
    if device.slug in _present():
        versions["driver"] = gpu.present_gpu(0).driver
    return versions


def _notes_about_here(device: Device) -> Iterator[str]:
    present = _present()
    if EAGER:
        yield "TUNEKIT_EAGER is set: calls run the eager reference, whatever is tuned"
    if INTERPRETED:
        yield (
            "TRITON_INTERPRET is set: on CPU tensors the default of the space runs in Triton's "
            "interpreter, whatever is tuned"
        )
    elif not present:
        yield (
            "this machine has no CUDA GPU: calls run the eager reference here; this is about a "
            f"call on {device.names[0]}"
        )
    if present and device.slug not in present:
        yield f"this machine has {', '.join(present)}; this is about a call on {device.slug}"


def _present() -> list[str]:
    return sorted({gpu.device_at(index).slug for index in range(gpu.gpu_count())})


def _advice(
    kernel: Kernel, launch: Launch, device: Device, choice: Choice, served: Candidate | None
) -> tuple[str, str]:
    """What makes an exact hit of a miss, and the command line for it."""
    here = device.slug in _present()
    where = "" if here else f" on a machine with {device.names[0]}"
    if choice.served is Served.DEFAULT and not here and device.slug in DEVICES:
        where += f" (here --target {device.slug} estimates it)"
    if choice.served is Served.EXACT:
        if served is None or not served.foreign or not here:
            return "", ""
        under = ", ".join(f"{each.field} {each.row}, not {each.call}" for each in served.foreign)
        reference = shlex.quote(advice.reference_of(kernel))
        return f"measured under {under}; to measure again", f"tunekit confirm {reference}"
    if any(meta.misalignment for meta in (*launch.inputs, *launch.outputs)):
        return (
            "tuning does not reach tensors that start at no multiple of 16 bytes: pass tensors "
            "that do, not views such as x[1:]",
            "",
        )
    asked = advice.command(kernel, kernel.shape_of(launch), choice.problem.dtype)
    return f"to tune this very problem{where}", asked
