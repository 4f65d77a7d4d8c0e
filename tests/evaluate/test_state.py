from __future__ import annotations

import io
import os
import resource
import signal
import statistics
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from tunekit.evaluate.state import put_back


def test_pytorch_is_put_back() -> None:
    state = torch.get_rng_state()
    with put_back() as lost:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.deterministic = True
        torch.set_autocast_enabled("cpu", True)
        torch.set_flush_denormal(True)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.manual_seed(12345)
    assert lost == []
    assert torch.get_default_dtype() is torch.float32
    assert torch.empty(1).device.type == "cpu"
    assert torch.is_grad_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.deterministic
    assert not torch.is_autocast_enabled("cpu")
    assert float(torch.tensor(1e-40) * 2) > 0
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("api", ["old", "new", "both"])
def test_tensor_float_32_is_put_back_whichever_switch_it_was(api: str) -> None:
    matmul = torch.backends.cuda.matmul
    with put_back() as lost:
        if api != "new":
            torch.set_float32_matmul_precision("high")
        if api != "old":
            matmul.fp32_precision = "tf32"
            torch.backends.cudnn.conv.fp32_precision = "ieee"
    assert lost == []
    assert torch.get_float32_matmul_precision() == "highest"
    assert not matmul.allow_tf32


def test_a_mode_that_was_entered_and_not_left() -> None:
    with put_back() as lost:
        torch.device("meta").__enter__()
    assert torch.empty(1).device.type == "cpu"
    assert lost == []


def test_what_cannot_be_put_back_is_named() -> None:
    mode = torch.inference_mode()
    with put_back() as lost:
        mode.__enter__()
    mode.__exit__(None, None, None)
    assert lost == ["inference mode"]


def test_python_and_the_process_are_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.setenv("CHANGED", "1")
    before = (
        dict(os.environ), os.getcwd(), signal.getsignal(signal.SIGTERM), sys.stdout, sys.stderr,
        sys.getrecursionlimit(), resource.getrlimit(resource.RLIMIT_NOFILE),
        os.sched_getaffinity(0), list(warnings.filters),
    )  # fmt: skip
    mask = os.umask(0o22)
    try:
        with put_back() as lost:
            os.environ["CHANGED"] = "2"
            os.environ["NEW"] = "3"
            del os.environ["KEPT"]
            os.chdir("/")
            os.umask(0o777)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
            sys.stdout = sys.stderr = changed = io.StringIO()
            sys.setrecursionlimit(5000)
            resource.setrlimit(resource.RLIMIT_NOFILE, (77, before[6][1]))
            os.sched_setaffinity(0, [min(before[7])])
            signal.setitimer(signal.ITIMER_VIRTUAL, 500)
            warnings.simplefilter("ignore")
        assert sys.stdout is not changed
        assert lost == []
        assert os.umask(0o22) == 0o22
    finally:
        os.umask(mask)
    after = (
        dict(os.environ), os.getcwd(), signal.getsignal(signal.SIGTERM), sys.stdout, sys.stderr,
        sys.getrecursionlimit(), resource.getrlimit(resource.RLIMIT_NOFILE),
        os.sched_getaffinity(0), list(warnings.filters),
    )  # fmt: skip
    assert after == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] == 0
    assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_standard_descriptors_are_put_back(tmp_path: Path) -> None:
    before = [os.fstat(descriptor).st_ino for descriptor in range(3)]
    elsewhere = os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY)
    with put_back() as lost:
        os.close(0)
        os.dup2(elsewhere, 1)
    os.close(elsewhere)
    assert lost == []
    assert [os.fstat(descriptor).st_ino for descriptor in range(3)] == before


def test_it_is_put_back_after_an_error_too() -> None:
    def leave() -> None:
        with put_back():
            torch.set_default_dtype(torch.float64)
            sys.exit(3)

    with pytest.raises(SystemExit):
        leave()
    assert torch.get_default_dtype() is torch.float32


def test_paths_of_imports_stay() -> None:
    """A kernel's file may add its folder, and import from there later."""
    with put_back():
        sys.path.append("/of/a/kernel")
    assert sys.path.pop() == "/of/a/kernel"


def test_it_is_cheap() -> None:
    took_s = []
    for _ in range(25):
        began = time.perf_counter()
        with put_back():
            pass
        took_s.append(time.perf_counter() - began)
    assert statistics.median(took_s) < 5e-3  # 0.6 ms; this machine may be busy
