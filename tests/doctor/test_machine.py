"""What the doctor says of versions, the driver, the compiler, the worker and folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunekit import driver
from tunekit.cli import main
from tunekit.core.evaluation import Status
from tunekit.doctor import diagnosis, folders, gpus, probe, versions
from tunekit.doctor.check import Check, State, guarded, ok, size_text
from tunekit.doctor.compiling import check_compiler, check_worker
from tunekit.doctor.diagnosis import diagnose
from tunekit.doctor.folders import check_folders
from tunekit.doctor.gpus import check_driver, check_models, read_gpus
from tunekit.doctor.probe import ProbeFailed, ask
from tunekit.doctor.versions import check_torch, check_versions
from tunekit.driver import Driver, Gpu
from tunekit.errors import WorkerError
from tunekit.evaluate.job import Outcome
from tunekit.here import Here

ROOT = Path(__file__).resolve().parents[2]
Bad = Callable[[list[Check]], list[Check]]
IDLE = Gpu("NVIDIA H100 80GB HBM3", "GPU-1", "default", False, True, 0)


def answers(monkeypatch: pytest.MonkeyPatch, module: Any, answer: Any) -> None:
    def ask(what: str, *arguments: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(module, "ask", ask)


class TestCheck:
    def test_what_raises_is_a_problem_after_what_was_found(self, bad: Bad) -> None:
        def family() -> Any:
            yield ok("one", "fine")
            raise OSError("line one\nline two")

        first, second = guarded("two", family)
        assert first == ok("one", "fine")
        assert bad([second]) == [second]
        assert second.says == "cannot be examined: OSError: line one line two"

    @pytest.mark.parametrize(
        ("size", "text"), [(5, "5 B"), (1500, "1.5 kB"), (4_700_000, "4.7 MB"), (5e12, "5000.0 GB")]
    )
    def test_sizes(self, size: float, text: str) -> None:
        assert size_text(size) == text


class TestVersions:
    def test_those_here_are_fine(self, bad: Bad) -> None:
        assert bad(list(check_versions())) == []

    @pytest.mark.parametrize(
        ("found", "state"),
        [("3.5.1", State.PROBLEM), ("3.6.0", State.OK), ("3.7.9", State.OK), ("9.0", State.NOTE)],
    )
    def test_triton(self, found: str, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(versions, "version", lambda package: found)
        checks = {check.name: check for check in check_versions()}
        assert checks["triton"].state is state

    def test_what_is_not_installed(self, monkeypatch: pytest.MonkeyPatch, bad: Bad) -> None:
        monkeypatch.setitem(versions.LEAST, "no-such-package", (1,))
        (found,) = bad(list(check_versions()))
        assert found.do == "pip install no-such-package"

    @pytest.mark.parametrize(
        ("answer", "cuda", "state", "said"),
        [
            ({"cuda": "13.0", "gpus": 2}, (13, 0), State.OK, "finds 2 GPUs"),
            ({"cuda": None, "gpus": 0}, None, State.OK, "built without CUDA; no NVIDIA driver"),
            ({"cuda": None, "gpus": 0}, (13, 0), State.PROBLEM, "its GPUs are not used"),
            ({"cuda": "13.0", "gpus": 0}, (12, 4), State.PROBLEM, "driver supports up to 12.4"),
            ({"cuda": "12.8", "gpus": 0}, (12, 4), State.PROBLEM, "finds no GPU"),
            (ProbeFailed("ended with SIGSEGV"), None, State.PROBLEM, "ended with SIGSEGV"),
        ],
    )
    def test_torch(
        self, answer: Any, cuda: tuple[int, int] | None, state: State, said: str,
        monkeypatch: pytest.MonkeyPatch, bad: Bad,
    ) -> None:  # fmt: skip
        answers(monkeypatch, versions, answer)
        (found,) = check_torch(cuda)
        assert found.state is state
        assert said in found.says
        bad([found])


class TestDriver:
    def test_without_one_it_is_a_note(self, bad: Bad) -> None:
        (found,) = bad(list(check_driver(Driver())))
        assert found.state is State.NOTE
        assert "--target" in found.says

    def test_one_that_is_broken(self, bad: Bad) -> None:
        (found,) = bad(list(check_driver(Driver(trouble="its kernel module is not loaded"))))
        assert found.state is State.PROBLEM
        assert "not loaded" in found.says

    def test_idle_gpus_are_fine(self, bad: Bad) -> None:
        found = list(check_driver(Driver("590.1", (13, 1), (IDLE, IDLE))))
        assert bad(found) == []
        assert found[0].says == "NVIDIA 590.1, CUDA up to 13.1, 2 GPUs"

    @pytest.mark.parametrize(
        ("change", "state", "said"),
        [
            ({"compute_mode": "prohibited"}, State.PROBLEM, "no process may use it"),
            ({"compute_mode": "exclusive process"}, State.NOTE, "one process at a time"),
            ({"mig": True}, State.NOTE, "MIG is on"),
            ({"processes": 3}, State.NOTE, "3 processes compute on it"),
            ({"persistent": False}, State.NOTE, "persistence mode is off"),
        ],
    )
    def test_states(self, change: dict[str, Any], state: State, said: str, bad: Bad) -> None:
        gpu = Gpu(**{name: getattr(IDLE, name) for name in Gpu.__slots__} | change)
        (found,) = bad(list(check_driver(Driver("590.1", None, (gpu,)))))
        assert found.state is state
        assert said in found.says

    def test_what_is_not_known_is_not_complained_of(self, bad: Bad) -> None:
        unknown = Gpu("NVIDIA H100", "", None, None, None, None)
        assert bad(list(check_driver(Driver("590.1", None, (unknown,))))) == []

    def test_models(self, bad: Bad) -> None:
        known = {"name": "NVIDIA H200", "slug": "h200", "in_table": True, "capability": 90}
        other = {"name": "NVIDIA X1", "slug": "x1", "in_table": False, "capability": 86}
        found = list(check_models([known, other]))
        assert found[0].says == "NVIDIA H200 (h200), capability 9.0"
        (note,) = bad(found)
        assert "not in tunekit's table" in note.says

    def test_gpus_that_cannot_be_asked_are_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers(monkeypatch, gpus, ProbeFailed("no answer"))
        assert read_gpus() == []

    def test_none_is_read_without_the_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(name: str) -> None:
            raise OSError(f"{name}: cannot open")

        monkeypatch.setattr(driver.ctypes, "CDLL", absent)
        assert driver.read_driver() == Driver()
        assert driver.driver_version() == ""

    @pytest.mark.parametrize(("status", "said"), [(9, "not loaded"), (18, "version"), (7, "7")])
    def test_a_library_that_does_not_start(
        self, status: int, said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Broken:
            def nvmlInit_v2(self) -> int:  # noqa: N802 - as NVML has it
                return status

        monkeypatch.setattr(driver.ctypes, "CDLL", lambda name: Broken())
        assert said in driver.read_driver().trouble
        assert driver.driver_version() == ""

    def test_what_nvml_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(driver.ctypes, "CDLL", lambda name: FakeNvml())
        assert driver.read_driver() == Driver(
            "590.1", (13, 1),
            (
                Gpu("NVIDIA H100", "GPU-1", "exclusive process", None, True, 2),
                Gpu("GPU 1, which does not answer", "", None, None, None, None),
            ),
        )  # fmt: skip
        assert driver.driver_version() == "590.1"
        here = Here.found()
        assert here.drivers["gpu-1-which-does-not-answer"] == "590.1"


class FakeNvml:
    """Two GPUs, one of which fell off the bus; no word of MIG."""

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:  # noqa: N802
        text.value = b"590.1"
        return 0

    def nvmlSystemGetCudaDriverVersion_v2(self, value: Any) -> int:  # noqa: N802
        value._obj.value = 13010
        return 0

    def nvmlDeviceGetCount_v2(self, value: Any) -> int:  # noqa: N802
        value._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:  # noqa: N802
        return 15 * index

    def nvmlDeviceGetName(self, handle: Any, text: Any, size: int) -> int:  # noqa: N802
        text.value = b"NVIDIA H100"
        return 0

    def nvmlDeviceGetUUID(self, handle: Any, text: Any, size: int) -> int:  # noqa: N802
        text.value = b"GPU-1"
        return 0

    def nvmlDeviceGetComputeMode(self, handle: Any, value: Any) -> int:  # noqa: N802
        value._obj.value = 3
        return 0

    def nvmlDeviceGetMigMode(self, handle: Any, value: Any, pending: Any) -> int:  # noqa: N802
        return 3

    def nvmlDeviceGetPersistenceMode(self, handle: Any, value: Any) -> int:  # noqa: N802
        value._obj.value = 1
        return 0

    def nvmlDeviceGetComputeRunningProcesses_v3(  # noqa: N802
        self, handle: Any, count: Any, processes: Any
    ) -> int:
        count._obj.value = 2
        return 0


class TestProbe:
    def test_it_answers(self) -> None:
        found = ask("hashes", "mish_mish", "mish_mish+bias", "somebodys", "a.py:b")
        assert sorted(found) == ["mish_mish", "mish_mish+bias"]

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("import os; os.abort()", "ended with SIGABRT"),
            ("import sys; sys.exit('no torch here')", "ended with exit status 1: no torch here"),
            ("import time; time.sleep(60)", "no answer within 0.5 s: killed"),
        ],
    )
    def test_what_ends_it_is_told(
        self, code: str, said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = subprocess.run

        def other(command: list[str], **options: Any) -> Any:
            return run([sys.executable, "-c", code], **options)

        monkeypatch.setattr(probe.subprocess, "run", other)
        with pytest.raises(ProbeFailed, match=said):
            ask("torch", deadline_s=0.5 if "sleep" in code else 60)

    def test_no_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(probe.sys, "executable", "/nowhere/python")
        with pytest.raises(ProbeFailed, match="no process can be started"):
            ask("torch")


class TestCompiling:
    def test_a_ptxas_that_is_none(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bad: Bad
    ) -> None:
        broken = tmp_path / "ptxas"
        # Triton passes over one that does not say its version.
        broken.write_text(
            "#!/bin/sh\n"
            "[ $1 = --version ] && echo 'Cuda compilation tools, release 12.8' && exit 0\n"
            "exit 3\n"
        )
        broken.chmod(0o755)
        monkeypatch.setenv("TRITON_PTXAS_PATH", str(broken))
        (found,) = bad(list(check_compiler("rtx4090", {})))
        assert found.state is State.PROBLEM
        assert "TRITON_PTXAS_PATH" in found.do

    def test_a_worker_that_does_not_start(self, monkeypatch: pytest.MonkeyPatch, bad: Bad) -> None:
        def evaluate(self: object, jobs: object) -> Any:
            raise WorkerError("the compile worker does not start: exit status 1")

        monkeypatch.setattr("tunekit.evaluate.estimate_pool.EstimatePool.evaluate", evaluate)
        (found,) = bad(list(check_worker(None, "rtx4090", {"BLOCK_SIZE": 64})))
        assert (found.name, found.state) == ("worker", State.PROBLEM)

    def test_a_worker_that_fails(self, monkeypatch: pytest.MonkeyPatch, bad: Bad) -> None:
        outcome = Outcome(Status.COMPILE_ERROR, reason="no such\ninstruction")
        monkeypatch.setattr(
            "tunekit.evaluate.estimate_pool.EstimatePool.evaluate",
            lambda self, jobs: iter([(0, outcome)]),
        )
        (found,) = bad(list(check_worker(None, "rtx4090", {"BLOCK_SIZE": 64})))
        assert found.says == "starts and fails: compile_error: no such instruction"


class TestFolders:
    def test_none_there_yet(self, tmp_path: Path, bad: Bad) -> None:
        found = list(check_folders(tmp_path / "deep" / "er" / "studies.db"))
        assert bad(found) == []
        assert "not there yet, made when first needed" in found[0].says
        assert [each.name for each in found] == [
            "data folder", "cache folder", "Triton's cache", "log folder",
        ]  # fmt: skip

    def test_what_they_hold(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(bytes(1500))
        (found, *_) = check_folders(tmp_path / "studies.db")
        assert found.says.startswith(f"{tmp_path}: 1.5 kB in 1 files, ")

    def test_a_file_where_a_folder_should_be(self, tmp_path: Path, bad: Bad) -> None:
        (tmp_path / "file").touch()
        found = bad(list(check_folders(tmp_path / "file" / "studies.db")))
        assert [(each.name, each.state) for each in found] == [("data folder", State.PROBLEM)]
        assert "--db" in found[0].do

    def test_one_that_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: Bad
    ) -> None:
        def refuse(**where: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(folders.tempfile, "TemporaryFile", refuse)
        found = bad(list(check_folders(tmp_path / "studies.db")))
        assert len(found) == 4
        assert all("Read-only file system" in each.says for each in found)

    @pytest.mark.parametrize(("free", "state"), [(1e6, State.PROBLEM), (5e8, State.NOTE)])
    def test_a_full_disk(
        self, free: float, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: Bad
    ) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(folders.shutil, "disk_usage", lambda path: usage(0, 0, free))
        assert {each.state for each in bad(list(check_folders(tmp_path / "s.db")))} == {state}

    def test_no_logs_are_wanted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TUNEKIT_LOG", os.devnull)
        assert "no logs are written" in list(check_folders(tmp_path / "s.db"))[-1].says


class TestDiagnosis:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The compiler and the worker have tests of their own."""
        monkeypatch.setattr(diagnosis, "check_compiler", lambda target, config: iter(()))

    def test_every_family_is_asked_whatever_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: Bad
    ) -> None:
        def broken(*arguments: object, **more: object) -> Any:
            raise MemoryError("out of everything")

        for family in (
            "read_driver", "check_driver", "check_torch", "check_models",
            "check_compiler", "check_folders", "check_database",
        ):  # fmt: skip
            monkeypatch.setattr(diagnosis, family, broken)
        found = bad(list(diagnose(tmp_path / "studies.db")))
        assert [each.name for each in found] == [
            "driver", "PyTorch", "GPU", "compiler", "folders", "your database",
            "shipped database",
        ]  # fmt: skip
        assert {each.state for each in found} == {State.PROBLEM}

    def test_with_a_gpu_that_one_is_compiled_for_and_measured_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        gpu = {"name": "NVIDIA H100 80GB HBM3", "slug": "h100", "in_table": True, "capability": 90}
        monkeypatch.setattr(diagnosis, "read_driver", lambda: Driver("590.1", (13, 1), (IDLE,)))
        monkeypatch.setattr(diagnosis, "read_gpus", lambda: [gpu])
        answers(monkeypatch, versions, {"cuda": "13.0", "gpus": 1})

        def compiler(target: str, config: dict[str, int]) -> Any:
            config["BLOCK_SIZE"] = 64
            return iter((ok("compiler", target),))

        def worker(*arguments: Any) -> Any:
            asked.append(arguments)
            return iter(())

        monkeypatch.setattr(diagnosis, "check_compiler", compiler)
        monkeypatch.setattr(diagnosis, "check_worker", worker)
        monkeypatch.setattr(diagnosis, "check_database", lambda *a, **more: iter(()))
        found = {each.name: each for each in diagnose(tmp_path / "studies.db")}
        assert found["compiler"].says == "h100"
        assert asked == [(0, "h100", {"BLOCK_SIZE": 64})]
        assert not any(each.state is State.PROBLEM for each in found.values())


def test_where_a_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("tunekit.doctor.diag")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    monkeypatch.setattr(diagnosis, "diagnose", lambda database: iter(()))
    assert main(["doctor"]) == 1
    ended = capsys.readouterr()
    assert "problem  installation: cannot be examined: ModuleNotFoundError" in ended.out
    assert ended.err.startswith("tunekit: ")


def test_the_oldest_versions_are_those_that_are_required() -> None:
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {
        name: tuple(map(int, least.split(".")))
        for name, least in (each.split(">=") for each in needed)
    } == versions.LEAST


def test_on_the_command_line(tmp_path: Path) -> None:
    """All of it, in its own process, with a database that is none."""
    (tmp_path / "a-file").write_text("no database")
    command = [sys.executable, "-m", "tunekit", "doctor", "--db", "a-file"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(
        [*command, "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr == "tunekit: 1 problem; what to do is said with each\n"
    found = json.loads(ended.stdout)
    assert found["problems"] == 1
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert states["your database"] == "problem"
    assert states["compiler"] == states["worker"] == "ok"
    says = {check["name"]: check["says"] for check in found["checks"]}
    assert "compiles for rtx4090 in " in says["compiler"]
    assert "ptxas" in says["compiler"]
    assert says["worker"].startswith("starts and estimates: ")
