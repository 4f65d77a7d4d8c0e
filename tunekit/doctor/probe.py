"""Asks in a process of its own what may crash or hang: PyTorch, the driver, the compiler.

`python -m tunekit.doctor.probe WHAT [ARGUMENT …]` prints one JSON object.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

DEADLINE_S = 120.0
_MARK = "tunekit-probe:"
"""Begins the line with the answer: what is imported may print, too."""


class ProbeFailed(Exception):  # noqa: N818 - what it says is what a check found
    """The process gave no answer; the message says how it ended."""


def ask(what: str, *arguments: str, deadline_s: float = DEADLINE_S) -> Any:
    """The answer of a process that was started for that.

    Raises:
        ProbeFailed: it crashed, hung, or raised.
    """
    command = [sys.executable, "-m", "tunekit.doctor.probe", what, *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise ProbeFailed(f"no answer within {deadline_s:g} s: killed") from None
    except OSError as error:
        raise ProbeFailed(f"no process can be started: {error.strerror or error}") from None
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            return json.loads(line.removeprefix(_MARK))
    raise ProbeFailed(f"{_ending(done.returncode)}{_last_line(done.stderr)}")


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"ended with {signal.Signals(-status).name}"
    except ValueError:
        return f"ended with signal {-status}"


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""


def _torch() -> Any:
    """PyTorch's version, the CUDA it was built for, and the GPUs it finds."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {"version": torch.__version__, "cuda": torch.version.cuda, "gpus": count}


def _gpus() -> Any:
    """Each GPU: its name, the model in the table, and whether it is one of the table's."""
    import torch

    from tunekit.core.device import device_of_driver
    from tunekit.gpu import gpu_count, present_gpu

    found = []
    for index in range(gpu_count()):
        gpu = present_gpu(index)
        properties = torch.cuda.get_device_properties(index)
        found.append(
            {
                "name": gpu.name,
                "driver": gpu.driver,
                "slug": gpu.device.slug,
                "in_table": device_of_driver(gpu.name) is not None,
                "capability": gpu.device.compute_capability,
                "uuid": str(getattr(properties, "uuid", "")),
            }
        )
    return found


def _compile(target: str) -> Any:
    """Compile a small kernel for a GPU model, and by what; nothing of it comes from a cache."""
    import os
    import tempfile
    import time

    from triton.backends.nvidia.compiler import get_ptxas

    from tunekit.core.device import device_named
    from tunekit.core.space import context
    from tunekit.evaluate.compile import compile_for, compile_launch
    from tunekit.kernels.library import KERNELS

    began = time.monotonic()
    device = device_named(target)
    kernel = KERNELS["identity"]
    launch = kernel.launch_for((4096,), "float32", device)
    config = kernel.load_space().default(context(launch.dims, 4, device))
    compile_for(device)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        binary = compile_launch(launch, config, kernel.scalar_values()).binary
    tool = get_ptxas(device.compute_capability)
    return {
        "ptxas": f"{getattr(tool, 'path', tool)} {getattr(tool, 'version', '')}".strip(),
        "config": dict(config),
        "registers": binary.registers,
        "seconds": time.monotonic() - began,
    }


def _hashes(*names: str) -> Any:
    """The hash of the source of each kernel that is of the library; others are left out."""
    from tunekit.errors import TunekitError
    from tunekit.kernels.registry import find_kernel

    found = {}
    for name in names:
        if ":" in name:
            continue  # a kernel of somebody's own: nothing of theirs is run here
        try:
            found[name] = find_kernel(name).source_hash
        except TunekitError:
            continue
    return found


_PROBES: dict[str, Callable[..., Any]] = {
    "torch": _torch,
    "gpus": _gpus,
    "compile": _compile,
    "hashes": _hashes,
}


if __name__ == "__main__":
    answer = _PROBES[sys.argv[1]](*sys.argv[2:])
    print(f"\n{_MARK}{json.dumps(answer)}", flush=True)
