"""A Python that has imported PyTorch forks for each program: the import costs a process seconds.

Run by the fixture `run_python` of `conftest.py`. Triton and tunekit are not imported before a fork:
whether kernels are interpreted is settled by the environment when they are. A line of standard
input is a request, one of standard output its exit status.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from typing import Any

import torch  # noqa: F401 - what the programs need not import again


def _requested() -> dict[str, Any]:
    """Fork for each request; returns in the child alone."""
    assert not {"triton", "tunekit"} & sys.modules.keys()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            request: dict[str, Any] = json.loads(line)
            return request
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    sys.exit()


def _become(request: dict[str, Any]) -> None:
    """Have the streams, the environment and the folder of the request."""
    for stream, path in enumerate((os.devnull, request["stdout"], request["stderr"])):
        # Both outputs may be one file, as with 2>&1.
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(file, stream)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])


def _run(arguments: list[str]) -> None:
    """As `python` does: -m MODULE, -c PROGRAM or FILE, and what follows."""
    first, *rest = arguments
    on_path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [os.path.abspath(each) for each in on_path if each]
    if first == "-m":
        module, *sys.argv[1:] = rest
        sys.path.insert(0, os.getcwd())
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    elif first == "-c":
        program, *sys.argv[1:] = rest
        sys.argv[0] = first
        sys.path.insert(0, "")
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv[:] = arguments
        sys.path.insert(0, os.path.dirname(os.path.abspath(first)))
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    wanted = _requested()
    _become(wanted)
    _run(wanted["arguments"])
