"""Worker processes that die, hang, chatter and refuse.

Most of these run the real worker with an evaluator that imports neither torch nor Triton, slipped
in by a `sitecustomize` module, so that a process starts in a blink.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tunekit.core.config import Config
from tunekit.core.evaluation import Binary, Status, VerifiedBy
from tunekit.errors import (
    DeviceMemoryError,
    KernelError,
    UnknownDeviceError,
    UnknownKernelError,
    WorkerError,
)
from tunekit.evaluate.estimate_pool import EstimatePool
from tunekit.evaluate.job import Job, Outcome, Race
from tunekit.evaluate.pool import Worker

ROOT = Path(__file__).resolve().parents[2]

# A kernel's name says what happens to it: "exit", "prepare:exit", "compile:exit", ...
FAKE = r"""
import os, sys, time, types

def act(what):
    if what == "exit":
        print("a last word", file=sys.stderr, flush=True)
        os._exit(3)
    if what == "silent":
        os._exit(4)
    if what == "abort":
        os.abort()
    if what == "hang":
        time.sleep(600)
    if what == "nap":
        time.sleep(1)
    if what.startswith("spawn="):
        import subprocess
        with open(what.removeprefix("spawn="), "w") as file:
            file.write(str(subprocess.Popen(["sleep", "600"]).pid))
    if what == "chatter":
        for stream in (sys.stdout, sys.stderr):
            for _ in range(400):
                print("x" * 10_000, file=stream)
        os.write(1, b"y" * 100_000)
    if what == "raise":
        raise ValueError("it failed")
    if what == "sticky":
        raise RuntimeError("CUDA error: an illegal memory access\nCompile with so and so.\n")
    if what == "no_room":
        raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate")
    if what == "lose":
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if what == "leave":
        sys.exit(3)
    if what == "compiler":
        print("an assertion of LLVM's", file=sys.stderr, flush=True)
    if what.startswith("once="):
        path = what.removeprefix("once=")
        if not os.path.exists(path):
            open(path, "w").close()
            os._exit(5)
    if what.startswith("note="):
        with open(what.removeprefix("note="), "a") as file:
            print(os.getpid(), file=file)
    if what == "refuse":
        from tunekit.errors import KernelError
        raise KernelError("refused")
    if what == "foreign":
        from tunekit.errors import TunekitError
        raise type("ForeignError", (TunekitError,), {})("of no kind known here")

class Fake:
    def __init__(self, device):
        from tunekit.core.config import Config
        from tunekit.core.evaluation import Binary, Status, VerifiedBy
        self.names = Binary, Status, VerifiedBy

    def act(self, job, when):
        for part in job.kernel.split(","):
            if part.startswith(when):
                act(part.removeprefix(when))

    def prepare(self, jobs):
        for job in jobs:
            self.act(job, "prepare:")

    def evaluate(self, job):
        from tunekit.evaluate.job import Outcome
        Binary, Status, VerifiedBy = self.names
        if "TUNEKIT_DOOM" in os.environ:
            act(os.environ["TUNEKIT_DOOM"])
        self.act(job, "")
        self.act(job, self.mode + ":")
        if self.mode == "interpret":
            wrong = "wrong" in job.kernel
            status = Status.WRONG if wrong else Status.OK
            by = None if wrong else VerifiedBy.INTERPRETER
            return Outcome(status, verified_by=by, max_error=7.0 if wrong else 0.5)
        binary = Binary("hash", 1, 2, 3, 4, 5)
        if "reject" in job.kernel:
            return Outcome(Status.REJECTED, reason="too big", binary=binary)
        return Outcome(Status.OK, time_us=float(job.seed), binary=binary)

    def compile(self, jobs):
        from tunekit.evaluate.job import Outcome
        Binary, Status, VerifiedBy = self.names
        for index, job in reversed(list(enumerate(jobs))):
            if job.kernel == "only:compiler":
                act("compiler")
                yield index, Outcome(Status.CRASHED, reason="the compiler's process ended")
                continue
            self.act(job, "only:")
            binary = Binary("hash", 1, 2, 3, 4, 5)
            yield index, Outcome(Status.OK, binary=binary, grid=(job.seed, 1, 1))

    def race(self, jobs, rounds):
        from tunekit.evaluate.job import Race
        for job in jobs:
            self.act(job, "race:")
        return Race([(float(job.seed),) * rounds for job in jobs], (0.5,) * rounds, "fog")

for name, mode, kind in (("interpreter", "interpret", "InterpreterEvaluator"),
                         ("compile_only", "compile", "CompileOnlyEvaluator")):
    module = types.ModuleType(f"tunekit.evaluate.{name}")
    setattr(module, kind, type(kind, (Fake,), {"mode": mode}))
    sys.modules[module.__name__] = module
"""


def _job(kernel: str, seed: int = 0, deadline_s: float = 30.0) -> Job:
    config = Config(BLOCK_SIZE=128, VEC=1, num_warps=4, num_stages=1)
    return Job(kernel, (8,), "float32", {}, config, "rtx4090", seed, deadline_s)


def _jobs(*kernels: str, deadline_s: float = 30.0) -> list[Job]:
    return [_job(kernel, seed, deadline_s) for seed, kernel in enumerate(kernels)]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))


@pytest.fixture
def worker(fake: None) -> Iterator[Worker]:
    with Worker("compile", "rtx4090") as one:
        yield one


def _evaluate(worker: Worker | EstimatePool, jobs: list[Job]) -> list[Outcome]:
    """Outcomes, of which there must be one for each job, in order."""
    indices, outcomes = zip(*worker.evaluate(jobs), strict=True)
    assert indices == tuple(range(len(jobs)))
    return list(outcomes)


def _summary(outcomes: list[Outcome]) -> list[str]:
    return [str(outcome.status) for outcome in outcomes]


class TestWorker:
    def test_outcomes_come_in_order(self, worker: Worker) -> None:
        outcomes = _evaluate(worker, _jobs("a", "b", "c"))
        assert [outcome.time_us for outcome in outcomes] == [0.0, 1.0, 2.0]
        assert outcomes[0].binary == Binary("hash", 1, 2, 3, 4, 5)

    def test_no_jobs_start_no_process(self, worker: Worker) -> None:
        assert list(worker.evaluate([])) == []
        assert worker._process is None

    def test_one_process_serves_every_request(self, worker: Worker) -> None:
        _evaluate(worker, _jobs("a"))
        process = worker._process
        _evaluate(worker, _jobs("b"))
        race = Race([(0.0, 0.0), (1.0, 1.0)], (0.5, 0.5), "fog")
        assert worker.race(_jobs("a", "b"), 2) == race
        assert worker._process is process

    @pytest.mark.parametrize(
        ("what", "reason"),
        [
            ("exit", "the worker process ended with exit status 3: a last word"),
            ("silent", "the worker process ended with exit status 4"),
            ("abort", "the worker process ended with signal 6"),
            ("sticky", "exit status 1: RuntimeError: CUDA error: an illegal memory access"),
        ],
    )
    @pytest.mark.parametrize("when", ["", "prepare:"])
    def test_a_job_that_kills_the_worker_costs_itself_alone(
        self, when: str, what: str, reason: str, worker: Worker
    ) -> None:
        outcomes = _evaluate(worker, _jobs("a", when + what, "b", "c"))
        assert _summary(outcomes) == ["ok", "crashed", "ok", "ok"]
        assert reason in outcomes[1].reason
        assert [outcome.time_us for outcome in outcomes] == [0.0, None, 2.0, 3.0]

    def test_every_job_may_kill_it(self, worker: Worker) -> None:
        outcomes = _evaluate(worker, _jobs(*["prepare:silent"] * 7, "a"))
        assert _summary(outcomes) == ["crashed"] * 7 + ["ok"]

    def test_a_death_is_not_given_the_last_words_of_an_earlier_one(self, worker: Worker) -> None:
        outcomes = _evaluate(worker, _jobs("exit", "silent"))
        assert outcomes[0].reason.endswith("a last word")
        assert outcomes[1].reason == "the worker process ended with exit status 4"

    def test_a_job_that_hangs_is_killed_at_its_deadline(self, worker: Worker) -> None:
        _evaluate(worker, _jobs("a"))
        began = time.monotonic()
        outcomes = _evaluate(worker, _jobs("a", "hang", "b", deadline_s=0.5))
        assert _summary(outcomes) == ["ok", "timeout", "ok"]
        assert outcomes[1].reason == "no answer within 0.5 s: killed"
        assert 0.5 <= time.monotonic() - began < 20

    def test_one_that_hangs_while_compiling_ahead_is_found(self, worker: Worker) -> None:
        jobs = _jobs("a", "prepare:hang", "b", deadline_s=0.5)
        outcomes = _evaluate(worker, [replace(job, compile_deadline_s=0.1) for job in jobs])
        assert _summary(outcomes) == ["ok", "timeout", "ok"]

    def test_megabytes_of_output_do_no_harm(self, worker: Worker) -> None:
        outcomes = _evaluate(worker, _jobs("chatter", "chatter,exit", "a"))
        assert _summary(outcomes) == ["ok", "crashed", "ok"]
        assert outcomes[1].reason.endswith("exit status 3: a last word")

    @pytest.mark.parametrize("when", ["", "prepare:"])
    def test_what_it_refuses_is_raised_here_and_it_lives_on(
        self, when: str, worker: Worker
    ) -> None:
        outcomes = worker.evaluate(_jobs("a", f"{when}refuse", "b"))
        if not when:
            assert next(outcomes)[0] == 0
        with pytest.raises(KernelError, match=r"^refused$"):
            next(outcomes)
        process = worker._process
        assert _summary(_evaluate(worker, _jobs("a", "b"))) == ["ok", "ok"]
        assert worker._process is process

    def test_an_error_of_no_kind_known_here_is_still_one_of_tunekits(self, worker: Worker) -> None:
        from tunekit.errors import TunekitError

        with pytest.raises(TunekitError, match="of no kind known here"):
            _evaluate(worker, _jobs("foreign"))

    def test_a_job_that_fails_is_an_error_with_its_reason(self, worker: Worker) -> None:
        outcomes = _evaluate(worker, _jobs("raise", "a"))
        assert _summary(outcomes) == ["error", "ok"]
        assert outcomes[0].reason == "ValueError: it failed"

    def test_answers_nobody_waited_for_are_not_taken_for_the_next(self, worker: Worker) -> None:
        outcomes = worker.evaluate(_jobs("a", "b", "c"))
        assert next(outcomes)[1].time_us == 0.0
        outcomes.close()  # type: ignore[attr-defined]
        found = _evaluate(worker, [_job("x", 7), _job("y", 8)])
        assert [outcome.time_us for outcome in found] == [7.0, 8.0]

    @pytest.mark.parametrize(
        ("what", "outcome"),
        [
            ("no_room", ("error", "OutOfMemoryError: CUDA out of memory. Tried to allocate")),
            ("lose", ("ok", "")),
        ],
    )
    def test_what_only_a_new_process_is_rid_of_costs_a_new_process(
        self, what: str, outcome: tuple[str, str], worker: Worker, tmp_path: Path
    ) -> None:
        """The others are still prepared together, and nobody is blamed."""
        note = tmp_path / "note"
        outcomes = _evaluate(worker, _jobs("a", what, f"prepare:note={note}", "b", "c"))
        assert (outcomes[1].status, outcomes[1].reason) == outcome
        assert _summary([*outcomes[:1], *outcomes[2:]]) == ["ok"] * 4
        first, second = note.read_text().split()
        assert first != second
        assert worker._deaths == 0
        assert _summary(_evaluate(worker, _jobs(what, "a"))) == [outcome[0], "ok"]
        assert _summary(_evaluate(worker, _jobs("a", what))) == ["ok", outcome[0]]
        assert _summary(_evaluate(worker, _jobs("a"))) == ["ok"]

    def test_what_the_worker_said_is_in_the_details_of_a_death(self, worker: Worker) -> None:
        outcomes = _evaluate(worker, _jobs("chatter", "exit", "sticky", "raise"))
        assert outcomes[1].details == "a last word"
        assert outcomes[2].details.startswith("Traceback (most recent call last):")
        assert "Compile with so and so." in outcomes[2].details
        assert outcomes[3].details.endswith("ValueError: it failed")
        assert outcomes[0].details == ""
        (flood,) = _evaluate(worker, _jobs("chatter,exit"))
        assert flood.details.endswith("a last word")
        assert 10_000 < len(flood.details) <= 16_384

    def test_where_it_hung_is_in_the_details_of_a_timeout(self, worker: Worker) -> None:
        (hung,) = _evaluate(worker, _jobs("hang", deadline_s=0.5))
        assert hung.reason == "no answer within 0.5 s: killed"
        assert "in act" in hung.details
        assert "in evaluate" in hung.details

    @pytest.mark.parametrize("when", ["", "prepare:"])
    def test_leaving_is_an_error_of_the_job(self, when: str, worker: Worker) -> None:
        _evaluate(worker, _jobs("a"))
        process = worker._process
        outcomes = _evaluate(worker, _jobs("a", f"{when}leave", "b"))
        assert _summary(outcomes) == ["ok", "ok" if when else "error", "ok"]
        assert when or outcomes[1].reason == "SystemExit: 3"
        assert worker._process is process

    def test_one_that_died_between_two_requests_is_nobodys_doing(self, worker: Worker) -> None:
        _evaluate(worker, _jobs("a"))
        process = worker._process
        assert process is not None
        process.interrupt()
        assert _summary(_evaluate(worker, _jobs("a", "b"))) == ["ok", "ok"]
        assert worker._deaths == 0

    def test_deaths_of_many_configurations_are_theirs(self, worker: Worker) -> None:
        assert _summary(_evaluate(worker, _jobs(*["silent"] * 9, "a"))) == ["crashed"] * 9 + ["ok"]

    def test_one_that_dies_whatever_it_is_given_ends_the_run(
        self, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TUNEKIT_DOOM", "exit")
        with pytest.raises(WorkerError) as raised:
            list(worker.evaluate(_jobs(*["a"] * 20)))
        message = str(raised.value)
        assert message.startswith("the compile worker died 4 times in a row (the worker process")
        assert message.count("ended with exit status 3: a last word") == 2
        assert "failed at the plain kernel `identity` too" in message
        assert "`tunekit doctor`" in message
        assert "\n" not in message
        monkeypatch.delenv("TUNEKIT_DOOM")
        assert _summary(_evaluate(worker, _jobs("a"))) == ["ok"]

    def test_so_does_one_that_dies_compiling_and_then_fails(
        self, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TUNEKIT_DOOM", "raise")
        with pytest.raises(WorkerError, match=r"died 4 times .* too \(ValueError: it failed\)"):
            list(worker.compile(_jobs(*["only:silent"] * 20)))

    def test_a_race_has_a_second_chance(self, worker: Worker, tmp_path: Path) -> None:
        once = tmp_path / "once"
        race = worker.race(_jobs("a", f"race:once={once}"), 2)
        assert len(race.samples_us) == 2
        assert once.exists()

    @pytest.mark.parametrize("what", ["silent", "hang"])
    def test_a_race_that_cannot_be_finished(self, what: str, worker: Worker) -> None:
        with pytest.raises(WorkerError, match="measuring the finalists: "):
            worker.race(_jobs("a", f"race:{what}", deadline_s=0.5), 3)
        assert _summary(_evaluate(worker, _jobs("a"))) == ["ok"]

    def test_a_target_that_is_unknown(self, fake: None) -> None:
        with Worker("compile", "rtx9999") as worker:
            for _ in range(2):
                with pytest.raises(UnknownDeviceError, match="rtx9999"):
                    _evaluate(worker, _jobs("a"))

    def test_a_worker_that_does_not_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "sitecustomize.py").write_text(
            "import sys, os\nprint('no room', file=sys.stderr, flush=True)\nos._exit(5)"
        )
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
        with (
            Worker("compile", "rtx4090") as worker,
            pytest.raises(WorkerError, match=r"compile worker does not start: .*5: no room$"),
        ):
            _evaluate(worker, _jobs("a"))

    def test_close_ends_the_process_and_may_be_repeated(self, worker: Worker) -> None:
        _evaluate(worker, _jobs("a"))
        process = worker._process
        assert process is not None
        worker.close()
        worker.close()
        assert process.returncode is not None
        assert _summary(_evaluate(worker, _jobs("a"))) == ["ok"]

    def test_only_the_interpreters_worker_is_told_to_interpret(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: None
    ) -> None:
        path = tmp_path / "sitecustomize.py"
        seen = tmp_path / "seen"
        path.write_text(
            FAKE + f"open({str(seen)!r}, 'a').write(os.environ.get('TRITON_INTERPRET', '-'))\n"
        )
        monkeypatch.setenv("TRITON_INTERPRET", "1")  # as this process may have it
        for mode in ("compile", "interpret"):
            with Worker(mode, "rtx4090") as worker:
                _evaluate(worker, _jobs("a"))
        assert seen.read_text() == "-1"


class TestCompile:
    def test_answers_come_as_they_are_known(self, worker: Worker) -> None:
        found = list(worker.compile(_jobs("a", "b", "c")))
        assert [index for index, _ in found] == [2, 1, 0]  # as this fake has them
        assert [outcome.grid for _, outcome in found] == [(2, 1, 1), (1, 1, 1), (0, 1, 1)]
        assert all(outcome.binary for _, outcome in found)
        assert list(worker.compile([])) == []

    @pytest.mark.parametrize("what", ["exit", "hang"])
    def test_a_job_that_kills_the_worker_costs_itself_alone(
        self, what: str, worker: Worker
    ) -> None:
        jobs = _jobs("a", f"only:{what}", "b", "c", deadline_s=0.5)
        found = dict(worker.compile([replace(job, compile_deadline_s=0.1) for job in jobs]))
        statuses = [str(found[index].status) for index in range(4)]
        assert statuses == ["ok", "timeout" if what == "hang" else "crashed", "ok", "ok"]

    def test_what_a_compiler_said_that_died_is_in_the_details(self, worker: Worker) -> None:
        found = dict(worker.compile(_jobs("a", "only:compiler", "b")))
        assert [str(found[index].status) for index in range(3)] == ["ok", "crashed", "ok"]
        assert found[1].details == "an assertion of LLVM's"

    def test_what_it_refuses_is_raised(self, worker: Worker) -> None:
        with pytest.raises(KernelError, match="refused"):
            list(worker.compile(_jobs("a", "only:refuse")))
        assert len(list(worker.compile(_jobs("a", "b")))) == 2

    def test_answers_nobody_waited_for_are_not_taken_for_the_next(self, worker: Worker) -> None:
        compiled = worker.compile(_jobs("a", "b", "c"))
        next(compiled)
        compiled.close()  # type: ignore[attr-defined]
        (outcome,) = _evaluate(worker, [_job("x", 7)])
        assert outcome.time_us == 7.0


class TestCompileAhead:
    def test_nobody_waits_and_nothing_is_answered(self, worker: Worker) -> None:
        _evaluate(worker, _jobs("a"))
        began = time.monotonic()
        worker.compile_ahead(_jobs("prepare:nap", "b"))
        worker.compile_ahead([])
        assert time.monotonic() - began < 0.5
        outcomes = _evaluate(worker, _jobs("x", "y"))
        assert [outcome.time_us for outcome in outcomes] == [0.0, 1.0]

    @pytest.mark.parametrize("what", ["exit", "abort", "raise", "refuse"])
    def test_what_becomes_of_it_is_told_with_the_job_itself(
        self, what: str, worker: Worker
    ) -> None:
        jobs = _jobs("a", f"prepare:{what}", "b")
        worker.compile_ahead(jobs)
        worker.compile_ahead(jobs)  # of a worker that may be dead by now
        if what == "refuse":
            with pytest.raises(KernelError, match="refused"):
                _evaluate(worker, jobs)
            return
        expected = {"raise": "ok"}.get(what, "crashed")
        assert _summary(_evaluate(worker, jobs)) == ["ok", expected, "ok"]

    def test_requests_longer_than_a_pipe_while_answers_are_unread(self, worker: Worker) -> None:
        """Neither end may wait for the other to read."""
        jobs = _jobs(*["a" * 200] * 2000)
        outcomes = worker.evaluate(jobs)
        next(outcomes)
        worker.compile_ahead(jobs)
        assert sum(1 for _ in outcomes) == len(jobs) - 1


class TestStart:
    def test_it_does_not_wait(self, fake: None) -> None:
        with Worker("compile", "rtx4090") as worker:
            assert worker.import_s == 0.0
            worker.start()
            process = worker._process
            worker.start()
            assert worker._process is process
            assert process is not None
            assert process.import_s is None
            _evaluate(worker, _jobs("a"))
            assert worker._process is process
            assert worker.import_s > 0

    def test_what_it_refuses_is_told_with_the_first_request(self, fake: None) -> None:
        with Worker("compile", "rtx9999") as worker:
            worker.start()
            time.sleep(1)  # it has ended by now, most likely
            with pytest.raises(UnknownDeviceError, match="rtx9999"):
                list(worker.compile(_jobs("a")))

    def test_its_children_end_with_it(self, worker: Worker, tmp_path: Path) -> None:
        pid_file = tmp_path / "pid"
        _evaluate(worker, _jobs(f"spawn={pid_file}"))
        worker.close()
        until = time.monotonic() + 20
        status = Path(f"/proc/{pid_file.read_text()}/stat")
        with suppress(FileNotFoundError):
            while status.read_text().rpartition(")")[2].split()[0] not in "ZX":
                assert time.monotonic() < until
                time.sleep(0.05)


class TestEstimatePool:
    @pytest.fixture
    def estimates(self, fake: None) -> Iterator[EstimatePool]:
        both = EstimatePool("rtx4090")
        yield both
        both.close()

    def test_an_estimate_is_joined_with_what_the_interpreter_saw(
        self, estimates: EstimatePool
    ) -> None:
        good, wrong, rejected = _evaluate(estimates, _jobs("a", "wrong", "reject,wrong"))
        binary = Binary("hash", 1, 2, 3, 4, 5)
        assert good == Outcome(
            Status.OK,
            verified_by=VerifiedBy.INTERPRETER,
            time_us=0.0,
            binary=binary,
            max_error=0.5,
        )
        assert wrong == Outcome(Status.WRONG, binary=binary, max_error=7.0)
        assert rejected == Outcome(Status.REJECTED, reason="too big", binary=binary)

    def test_it_keeps_both_processes_from_batch_to_batch(self, estimates: EstimatePool) -> None:
        _evaluate(estimates, _jobs("a", "b"))
        processes = estimates._compiler._process, estimates._interpreter._process
        assert None not in processes
        _evaluate(estimates, _jobs("c"))
        assert (estimates._compiler._process, estimates._interpreter._process) == processes

    @pytest.mark.parametrize("mode", ["compile", "interpret"])
    def test_either_may_die_and_the_pairs_stay_together(
        self, mode: str, estimates: EstimatePool
    ) -> None:
        outcomes = _evaluate(estimates, _jobs("a", f"{mode}:exit", "wrong", "b"))
        assert _summary(outcomes) == ["ok", "crashed", "wrong", "ok"]
        assert [outcome.time_us for outcome in outcomes] == [0.0, None, None, 3.0]

    def test_what_only_the_interpreter_refuses_is_raised(self, estimates: EstimatePool) -> None:
        with pytest.raises(KernelError, match="refused"):
            _evaluate(estimates, _jobs("a", "interpret:refuse", "b"))
        assert _summary(_evaluate(estimates, _jobs("a"))) == ["ok"]

    def test_when_the_compiler_refuses_nobody_waits_for_the_interpreter(
        self, estimates: EstimatePool
    ) -> None:
        _evaluate(estimates, _jobs("a"))
        began = time.monotonic()
        with pytest.raises(KernelError, match="refused"):
            _evaluate(estimates, _jobs("compile:refuse,interpret:hang", "a"))
        assert time.monotonic() - began < 20
        assert _summary(_evaluate(estimates, _jobs("a", "b"))) == ["ok", "ok"]

    def test_only_the_compiler_compiles(self, estimates: EstimatePool) -> None:
        estimates.compile_ahead(_jobs("a", "b"))
        assert sorted(index for index, _ in estimates.compile(_jobs("a", "b"))) == [0, 1]
        assert estimates._interpreter._process is None

    def test_close_ends_both(self, estimates: EstimatePool) -> None:
        _evaluate(estimates, _jobs("a"))
        estimates.close()
        assert estimates._compiler._process is None
        assert estimates._interpreter._process is None


MORTAL = """
    import os, time
    import triton
    import triton.language as tl
    from tunekit.kernels.kernel import pointwise

    {at_import}

    @triton.jit
    def double(x):
        return x * 2

    kernel = pointwise("kernel", epilogue=double, reference=lambda x: x * 2)
    plan = kernel.plan

    def deadly(metas, device):
        {at_plan}
        return plan(metas, device)

    object.__setattr__(kernel, "plan", deadly)
"""


def test_kernel_files_that_exit_hang_or_raise(write_module: Callable[..., Path]) -> None:
    """The real interpreter's worker, over files as a person might write them."""
    files = {
        "good": ("pass", "pass"),
        "exits": ("os._exit(9)", "pass"),
        "hangs": ("pass", "time.sleep(600)"),
        "raises": ("raise ValueError('half done')", "pass"),
        "plans_badly": ("pass", "raise ValueError('no plan')"),
    }
    paths = {
        name: write_module(MORTAL.format(at_import=at_import, at_plan=at_plan), f"{name}.py")
        for name, (at_import, at_plan) in files.items()
    }
    jobs = {name: _job(f"{path}:kernel") for name, path in paths.items()}
    with Worker("interpret", "rtx4090") as worker:
        found = _evaluate(worker, [jobs["exits"], jobs["good"], jobs["plans_badly"]])
        assert _summary(found) == ["crashed", "ok", "error"], found
        assert "exit status 9" in found[0].reason
        assert found[1].verified_by is VerifiedBy.INTERPRETER
        assert found[2].reason == "ValueError: no plan"
        with pytest.raises(KernelError, match="half done"):
            _evaluate(worker, [jobs["raises"]])
        with pytest.raises(UnknownKernelError, match="did you mean 'mish_mish'"):
            _evaluate(worker, [_job("mish_mis")])
        with pytest.raises(UnknownKernelError, match=r"nowhere\.py: no such Python file"):
            _evaluate(worker, [_job("nowhere.py:x")])
        (hung,) = _evaluate(worker, [replace(jobs["hangs"], deadline_s=2.0)])
        assert (hung.status, hung.reason) == (Status.TIMEOUT, "no answer within 2 s: killed")


def test_errors_keep_their_kind_across_the_pipe() -> None:
    """Whatever a worker may refuse with has a place in tunekit.errors, by name."""
    from tunekit import errors

    for kind in (DeviceMemoryError, KernelError, UnknownKernelError, UnknownDeviceError):
        assert getattr(errors, kind.__name__) is kind
