from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.core.evaluation import Binary, Source, Status, VerifiedBy
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Job, Outcome, Race

# How long one example takes says more about the machine than about the code.
settings.register_profile("tunekit", deadline=None)
settings.load_profile("tunekit")


ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def triton_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One compile cache for the session: a cold one for each test would cost seconds a test.

    The processes of pytest-xdist share it, as processes of one person do.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "triton-cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def isolated_home(
    tmp_path_factory: pytest.TempPathFactory, triton_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A home of the test's own, so that nobody's results are read and none are left behind."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / ".local" / "share"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / ".local" / "state"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(triton_cache))
    monkeypatch.delenv("TUNEKIT_DB", raising=False)
    monkeypatch.delenv("TUNEKIT_LOG", raising=False)
    return home


RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def run_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunPython]:
    """Runs programs in processes of their own that need not import PyTorch: see torch_imported.py.

    Called with what follows `python`: -m MODULE, -c PROGRAM or FILE, and arguments; and with
    variables of the environment. `cwd` is the repository unless it says otherwise, and with
    `merged` what goes to standard error is in `stdout` too.
    """
    folder = tmp_path_factory.mktemp("programs")
    outer = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("torch_imported.py")],
        env=outer,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def run(
            *arguments: object, cwd: Path = ROOT, merged: bool = False, **variables: str
        ) -> subprocess.CompletedProcess[str]:
            said = [folder / "stdout", folder / ("stdout" if merged else "stderr")]
            for path in said:
                path.write_bytes(b"")
            request = {
                "arguments": [str(each) for each in arguments],
                "environment": os.environ | {"PYTHONPATH": str(ROOT)} | variables,
                "cwd": str(cwd),
                "stdout": str(said[0]),
                "stderr": str(said[1]),
            }
            try:
                requests.write(json.dumps(request) + "\n")
                requests.flush()
                status = int(answers.readline())
            except BaseException:
                # Or the answer to a test that took too long were the next one's.
                os.killpg(process.pid, signal.SIGKILL)
                raise
            out, err = (path.read_text() for path in said)
            return subprocess.CompletedProcess(arguments, status, out, "" if merged else err)

        yield run
        # A program that a test no longer waits for is not left behind.
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def pass_interpreted(run_python: RunPython) -> Callable[..., None]:
    """Runs files of tests in Triton's interpreter, where all have to pass.

    In a process of its own: a kernel is interpreted, or not, from its definition on.
    """
    # Of the plugins it needs one, for an option of the project's: each costs the process a second.
    plugins = ["--disable-plugin-autoload", "-p", "pytest_timeout", "-p", "no:cacheprovider"]

    def run(*files: Path) -> None:
        done = run_python("-m", "pytest", "-q", *plugins, *files, TRITON_INTERPRET="1")
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.fixture
def write_module(tmp_path: Path) -> Callable[..., Path]:
    """Writes a Python file, as a person does who has a kernel of their own."""

    def write(source: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(source))
        return path

    return write


@pytest.fixture(scope="module")
def compiling() -> Iterator[Device]:
    """Triton compiles for an RTX 4090, whatever this machine has."""
    from triton.runtime import driver

    from tunekit.evaluate.compile import CompileOnlyDriver

    device = DEVICES["rtx4090"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "_active", CompileOnlyDriver(device))
        yield device


Answer = float | Outcome | BaseException
"""What a table says of a configuration: its time in µs, another outcome, or what is raised."""


def own_binary(config: Config) -> Outcome:
    """What compiling gives where no two configurations compile to the same."""
    digest = sha256(repr(sorted(config.items())).encode()).hexdigest()[:16]
    return Outcome(Status.OK, binary=Binary(digest, 32, 0, 0, 16, 16), grid=(64, 1, 1))


class EstimatingTable:
    """A pool that looks configurations up instead of running them."""

    verified_by = VerifiedBy.INTERPRETER

    def __init__(self, table: Callable[[Config], Answer]) -> None:
        self.table = table
        self.jobs: list[Job] = []
        self.compiled: list[Config] = []
        self.ahead: list[Config] = []
        self.binaries = own_binary
        self.on_ready = lambda mode, import_s: None
        self.closed = False

    @property
    def configs(self) -> list[Config]:
        """What was evaluated, in order."""
        return [job.config for job in self.jobs]

    def evaluate(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        for index, job in enumerate(jobs):
            answer = self.table(job.config)
            if isinstance(answer, BaseException):
                raise answer
            self.jobs.append(job)
            yield index, answer if isinstance(answer, Outcome) else self._ok(answer)

    def compile(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """Each configuration is a binary of its own, unless the table of binaries says other."""
        for index, job in enumerate(jobs):
            self.compiled.append(job.config)
            yield index, self.binaries(job.config)

    def compile_ahead(self, jobs: Sequence[Job]) -> None:
        self.ahead += [job.config for job in jobs]

    def _ok(self, time_us: float) -> Outcome:
        return Outcome(Status.OK, verified_by=self.verified_by, time_us=time_us, max_error=0.25)

    def close(self) -> None:
        self.closed = True


class MeasuringTable(EstimatingTable):
    """The same as if on a GPU: with samples, and races, in which a copy takes 5 µs.

    Args:
        table: of the search.
        race: a configuration's time in a race; the table's if there is none.
    """

    verified_by = VerifiedBy.DEVICE

    def __init__(
        self, table: Callable[[Config], Answer], race: Callable[[Config], Any] | None = None
    ) -> None:
        super().__init__(table)
        self.race_table = race or table
        self.raced: list[Config] = []
        self.faults: dict[Config, str] = {}

    def _ok(self, time_us: float) -> Outcome:
        return Outcome(
            Status.OK,
            verified_by=self.verified_by,
            time_us=time_us,
            samples_us=(time_us,) * 5,
            max_error=0.25,
        )

    def race(self, jobs: Sequence[Job], rounds: int) -> Race:
        self.raced = [job.config for job in jobs]
        times = [*(self.race_table(config) for config in self.raced), 5.0]
        # All drift alike, as on a GPU that warms up.
        *samples, copy = (tuple(time * (1 + i / 1000) for i in range(rounds)) for time in times)
        faults = tuple(self.faults.get(config, "") for config in self.raced)
        return Race(samples, copy, faults=faults)


@pytest.fixture
def gpu_host() -> Callable[..., Host]:
    """A host with an H100 whose measurements are looked up in a table, and raced in another."""

    def make(
        table: Callable[[Config], Answer],
        race: Callable[[Config], Any] | None = None,
        driver: str = "580.1",
    ) -> Host:
        pool = MeasuringTable(table, race)
        return Host(DEVICES["h100"], pool, Source.MEASURED, "graph-1", driver)

    return make


@pytest.fixture
def estimate_host() -> Callable[..., Host]:
    """A host with no GPU whose estimates for an H100 are looked up in a table."""

    def make(table: Callable[[Config], Answer]) -> Host:
        return Host(DEVICES["h100"], EstimatingTable(table), Source.ESTIMATED, "estimate-1", "")

    return make


Tally = Callable[[str, str, int], None]
_counts = pytest.StashKey[dict[tuple[str, str], int]]()


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Tally:
    """Counts what a long test did, for the table that benchmarks/reliability.py prints.

    Called with a section, what was counted, and how many; the same again adds up.
    """
    counts = pytestconfig.stash[_counts]

    def add(section: str, what: str, count: int) -> None:
        counts[section, what] = counts.get((section, what), 0) + count

    return add


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tally", metavar="FILE", help="write there, as JSON, what tests counted")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_counts] = {}


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    path = session.config.getoption("--tally")
    if path is None:
        return
    counts = session.config.stash[_counts]
    report = {
        "passed": exitstatus == 0,
        "gpu": _gpu_name(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "triton": version("triton"),
        "counts": [[section, what, count] for (section, what), count in counts.items()],
    }
    Path(path).write_text(json.dumps(report, indent=1) + "\n")


def _gpu_name() -> str:
    if not _has_gpu():
        return ""
    import torch

    return torch.cuda.get_device_name()


NO_GPU = "tests marked `gpu` were asked for, but torch finds no CUDA GPU"


@cache
def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stop, rather than skip, when GPU tests were asked for and there is no GPU."""
    # An xdist worker that stops here is reported as a crash: there, each test fails instead.
    in_worker = hasattr(config, "workerinput")
    wanted = any(item.get_closest_marker("gpu") for item in items)
    if wanted and not in_worker and not _has_gpu():
        raise pytest.UsageError(NO_GPU)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not _has_gpu():
        pytest.fail(NO_GPU, pytrace=False)
