"""Which problems a program really launches, and how often.

    with tunekit.record("model.jsonl"):  # or TUNEKIT_RECORD=model.jsonl around the program
        model(x)

Then `tunekit tune --recorded model.jsonl`.

While nothing records a call does nothing for it: what a fast call runs is made when its kind is
learned, so switching recording on or off forgets the kinds, and while it is on each one learned
counts. Counts only grow and are kept a problem, not a recording: a recording is what they grew by,
so several may overlap.
"""

from __future__ import annotations

import atexit
import itertools
import math
import multiprocessing.util
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tunekit._version import __version__
from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.evaluation import Source
from tunekit.core.problem import Problem
from tunekit.errors import UsageError
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch
from tunekit.notices import warn
from tunekit.recorded import Recorded, Served, Timed, added_up, to_line
from tunekit.runtime import fast
from tunekit.runtime.advice import reference_of
from tunekit.runtime.direct import Direct
from tunekit.runtime.known import size_of
from tunekit.runtime.lookup import Choice

_MOST_PROBLEMS = 65_536

_Key = tuple[int, Problem, str, Config]


class Tally:
    """How often one problem was launched with one configuration.

    Attributes:
        count: call it after each launch. It is one call into C, so that no thread can lose one.
    """

    __slots__ = ("_bytes_moved", "_choice", "_floor_us", "_kernel", "_reads", "_shape", "count")

    def __init__(
        self, kernel: Kernel, choice: Choice, launch: Launch, device: Device, shape: Sequence[int]
    ) -> None:
        self.count = itertools.count().__next__
        self._reads = 0
        self._kernel, self._choice = kernel, choice
        self._shape = tuple(shape) or (1,)
        self._bytes_moved = kernel.bytes_moved(launch)
        bandwidth = device.dram_bytes_per_s
        self._floor_us = 1e6 * self._bytes_moved / bandwidth if bandwidth > 0 else None

    def read(self) -> int:
        """Launches until now; under `_lock`."""
        found = self.count() - self._reads
        self._reads += 1  # a counter is read by counting: that one was no launch
        return found

    def recorded(self, count: int) -> Recorded:
        """So many of the launches, as data."""
        time_us, timed = self._time()
        return Recorded(
            reference=reference_of(self._kernel),
            problem=self._choice.problem,
            shape=self._shape,
            served=Served(self._choice.served),
            config=self._choice.config,
            count=count,
            bytes_moved=self._bytes_moved,
            time_us=time_us,
            timed=timed,
            tunekit=__version__,
        )

    def _time(self) -> tuple[float | None, Timed]:
        row, problem = self._choice.row, self._choice.problem
        # Only what was measured: an estimate is no time that a call took.
        if row is not None and row.source is Source.MEASURED:
            if row.problem.dims == problem.dims:
                return row.time_us, Timed.MEASURED
            time_us = row.time_us * size_of(problem) / max(size_of(row.problem), 1)
            if 0 < time_us < math.inf:
                return time_us, Timed.SCALED
        return self._floor_us, Timed.UNKNOWN if self._floor_us is None else Timed.BOUND


class Recording:
    """What is launched between `with` and its end.

    Threads count together, and so do recordings that overlap: each has all that was launched while
    it was on. A forked child begins at zero and writes lines of its own.

    Args:
        path: a file to which the problems are appended in the end, in one write, so that several
            processes may have the same; None keeps them here.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._given = path
        self._path: Path | None = None
        self._before: dict[Tally, int] = {}
        self._problems: list[Recorded] = []
        self._is_on = False

    @property
    def problems(self) -> list[Recorded]:
        """What was launched, most often launched first; while it is on, until now."""
        if self._is_on:
            return self._until_now()
        return list(self._problems)

    def __enter__(self) -> Self:
        if self._is_on:
            raise UsageError("this recording is on; `tunekit.record()` makes another one")
        self._path = None if self._given is None else _writable(self._given)
        with _lock:
            self._before = _counts()
            self._is_on = True
            _on.append(self)
        fast.forget()  # after it is on: whoever learns a kind in between looks again
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Stop recording and write; nothing where it has ended."""
        with _lock:
            if not self._is_on:
                return
            self._is_on = False
            _on.remove(self)
        self._problems = self._until_now()
        fast.forget()
        if self._path is not None and self._problems:
            _append(self._path, self._problems)

    def restart(self) -> None:
        """Begin at zero: in a child what was counted before is the parent's to tell."""
        self._before = _counts()

    def _until_now(self) -> list[Recorded]:
        with _lock:
            counts = _counts()
        grown = {tally: count - self._before.get(tally, 0) for tally, count in counts.items()}
        found = added_up(tally.recorded(count) for tally, count in grown.items() if count > 0)
        return sorted(found, key=lambda each: -each.count)


def record(path: str | os.PathLike[str] | None = None) -> Recording:
    """Note every problem that is launched on a GPU, with its count and what it was served.

        with tunekit.record() as recording:
            model(x)
        for each in recording.problems:
            print(each.count, each.reference, each.shape, each.served)

    Args:
        path: a `.jsonl` file to append to, for `tunekit tune --recorded`; without one the problems
            are in `recording.problems` alone. One that cannot be written is one TunekitWarning.
    """
    return Recording(path)


_on: list[Recording] = []
_tallies: dict[_Key, Tally] = {}
"""All that were ever made in this process."""
_lock = threading.Lock()


def is_on() -> bool:
    """Whether launches are to be counted."""
    return bool(_on)


def tally_of(
    kernel: Kernel, choice: Choice, launch: Launch, device: Device, shape: Sequence[int]
) -> Tally:
    """The counter of launches of a problem with a configuration.

    Args:
        kernel: that is launched.
        choice: what it is served.
        launch: of it.
        device: where.
        shape: of the first input.
    """
    key = (id(kernel), choice.problem, str(choice.served), choice.config)
    with _lock:
        found = _tallies.get(key)
        if found is not None:
            return found
        made = Tally(kernel, choice, launch, device, shape)
        is_full = len(_tallies) >= _MOST_PROBLEMS
        if not is_full:
            _tallies[key] = made
    if is_full:
        warn(f"recording: more than {_MOST_PROBLEMS} problems; those beyond are not noted")
    return made


def counted(direct: Direct, tally: Tally) -> Direct:
    """The same launch, counted."""
    count = tally.count

    def launch(stream: int, pointers: tuple[int, ...], scalars: tuple[float, ...]) -> None:
        direct(stream, pointers, scalars)
        count()

    return launch


def _counts() -> dict[Tally, int]:
    return {tally: tally.read() for tally in _tallies.values()}


def _writable(path: str | os.PathLike[str]) -> Path | None:
    """The file's full path, made if it is not there: a mistake is told now, not hours later."""
    target = Path(os.path.abspath(Path(path).expanduser()))
    try:
        os.close(_open(target))
    except (OSError, ValueError) as error:
        _warn_unwritable(target, error)
        return None
    return target


def _append(path: Path, problems: Sequence[Recorded]) -> None:
    """Add lines in one write, which no other process's lines can come between."""
    text = "".join(f"{to_line(each)}\n" for each in problems).encode()
    try:
        file = _open(path)
        try:
            if not _ends_a_line(file):  # another process found the disk full
                text = b"\n" + text
            if os.write(file, text) < len(text):
                raise OSError(None, "no space is left for all of it")
        finally:
            os.close(file)
    except OSError as error:
        _warn_unwritable(path, error)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _ends_a_line(file: int) -> bool:
    size = os.fstat(file).st_size
    return not size or os.pread(file, 1, size - 1) == b"\n"


def _warn_unwritable(path: Path, error: OSError | ValueError) -> None:
    why = getattr(error, "strerror", None) or error
    warn(f"recording: cannot write {path}: {why}; what is launched is not written down")


def _finish() -> None:
    """End what is on when the process ends."""
    for each in list(_on):
        each.end()


def _in_a_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    for each in _on:
        each.restart()


def _ends_with_multiprocessing(_: object) -> None:
    multiprocessing.util.Finalize(None, _finish, exitpriority=0)


atexit.register(_finish)
os.register_at_fork(after_in_child=_in_a_child)
# A child that multiprocessing forks ends without what `atexit` knows.
multiprocessing.util.register_after_fork(_finish, _ends_with_multiprocessing)

if _environment := os.environ.get("TUNEKIT_RECORD"):
    record(_environment).__enter__()
