"""What code of a kernel may do to the process that runs it.

Imported by kernels and evaluators in worker processes, whose PYTHONPATH names this folder.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings


def abort() -> None:
    os.abort()


def system_exit() -> None:
    sys.exit(3)


def keyboard_interrupt() -> None:
    raise KeyboardInterrupt


def exit_at_once() -> None:
    os._exit(7)


def segmentation_fault() -> None:
    ctypes.string_at(0)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_its_group() -> None:
    os.killpg(0, signal.SIGKILL)


def kill_its_parent() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def hang() -> None:
    while True:
        pass


def hang_in_c() -> None:
    """With the interpreter's lock held."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def hang_deaf() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)


def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def print_megabytes() -> None:
    for stream in (sys.stdout, sys.stderr):
        for _ in range(400):
            print("x" * 10_000, file=stream)
    for descriptor in (1, 2):
        left = 2_000_000
        while left:
            left -= os.write(descriptor, b"y" * min(left, 100_000))


def print_for_ever() -> None:
    while True:
        os.write(2, b"z" * 10_000)


def close_everything() -> None:
    os.closerange(0, 4096)


def close_standard_streams() -> None:
    os.closerange(0, 3)


def fork_and_go_on() -> None:
    os.fork()


def fork_a_sleeper() -> None:
    if not os.fork():
        time.sleep(600)
        os._exit(0)


def fork_a_daemon() -> None:
    """In a session of its own, and its parent is gone."""
    child = os.fork()
    if not child:
        os.setsid()
        if not os.fork():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        os._exit(0)
    os.waitpid(child, 0)


def spawn_in_a_session() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        subprocess.Popen(["sleep", "600"], start_new_session=True)


def fork_and_exit() -> None:
    """What it leaves holds every pipe open."""
    fork_a_daemon()
    fork_a_sleeper()
    os._exit(8)


def leave_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(600,)).start()


def leave_something_for_the_end() -> None:
    atexit.register(time.sleep, 600)


def set_an_alarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.01)


def recurse() -> None:
    recurse()


def run_out_of_memory() -> None:
    bytearray(1 << 60)


def change_state() -> None:
    """Everything that the next job would notice; `look_around` is that job."""
    os.environ["TUNEKIT_CHANGED"] = "yes"
    os.environ.pop("PATH", None)
    os.chdir("/")
    os.umask(0o777)
    sys.stdout = sys.stderr = None  # type: ignore[assignment]
    sys.setrecursionlimit(123_456)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    warnings.simplefilter("error")
    set_an_alarm()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.benchmark = True
        torch.set_flush_denormal(True)
        torch.set_num_threads(3)
        torch.manual_seed(7)


def look_around() -> None:
    """Fail if something is not as a worker has it."""
    assert "TUNEKIT_CHANGED" not in os.environ
    assert "PATH" in os.environ
    assert os.getcwd() != "/"
    mask = os.umask(0)
    os.umask(mask)
    assert mask != 0o777
    assert sys.stdout is not None
    assert sys.stderr is not None
    assert sys.getrecursionlimit() != 123_456
    assert signal.getsignal(signal.SIGUSR2) is not signal.SIG_IGN
    assert signal.getsignal(signal.SIGALRM) is not signal.SIG_IGN
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    warnings.warn("this is no error", stacklevel=1)
    torch = sys.modules.get("torch")
    if torch is not None:
        assert torch.get_default_dtype() is torch.float32
        assert torch.empty(1).device.type == "cpu"
        assert torch.is_grad_enabled()
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.benchmark
        assert float(torch.tensor(1e-40) * 2) > 0
