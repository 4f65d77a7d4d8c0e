"""Which of Triton's cached binaries a launch needs, remembered between processes.

Triton finds a binary by a hash of its own installation, of the source and of the arguments' types:
some tenths of a second in every new process, before the first launch. What a launch runs follows
from what is known here already, so a small file says where the binary lies that an earlier process
compiled. It holds no code: without it, or where anything differs, Triton finds or compiles the
binary as ever.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import triton
from triton import knobs
from triton.compiler import CompiledKernel

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Constant, Launch, alignment_class
from tunekit.paths import cache_folder

_FORMAT = 1
_MAX_BYTES = 1_000_000
_NEEDED = (".json", ".cubin")
_ELSEWHERE = frozenset({"TRITON_CACHE_DIR", "TRITON_HOME"})
"""Settings of Triton that say where things lie, not what is compiled."""


def load(kernel: Kernel, launch: Launch, config: Config, device: Device) -> Any:
    """The compiled kernel that an earlier process ran for such a launch; None if none is known."""
    try:
        entry = json.loads(_text(_path(kernel, launch, config, device)))
        files = {str(name): _inside(str(path)) for name, path in entry["files"].items()}
        signature = {str(name): _as_tuples(kind) for name, kind in entry["signature"].items()}
        source = SimpleNamespace(fn=launch.function, signature=signature, constants={})
        return CompiledKernel(source, files, str(entry["hash"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # no such file, or not as it was left: Triton answers instead


def save(
    kernel: Kernel, launch: Launch, config: Config, device: Device, compiled: CompiledKernel
) -> None:
    """Remember what such a launch ran; a cache that cannot be written remembers nothing.

    Nor is a kernel remembered that Triton compiled for the values some globals had.
    """
    if launch.function.used_global_vals:
        return
    path = _path(kernel, launch, config, device)
    files = {
        name: str(place)
        for name, place in compiled.metadata_group.items()
        if name.endswith(_NEEDED)
    }
    entry = {"files": files, "hash": compiled.hash, "signature": compiled.src.signature}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False
        ) as file:
            json.dump(entry, file)
        os.replace(file.name, path)
    except OSError:
        pass  # a read-only home: the next process asks Triton again


def _path(kernel: Kernel, launch: Launch, config: Config, device: Device) -> Path:
    text = "\n".join(_parts(kernel, launch, config, device))
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    return cache_folder() / "binaries" / f"{name}.json"


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError("no entry is that large")
    return content


def _inside(path: str) -> str:
    """The path of a file of Triton's own cache: what lies elsewhere is not launched.

    Raises:
        ValueError: it lies elsewhere.
    """
    folder = os.path.realpath(knobs.cache.dir)
    if not os.path.realpath(path).startswith(os.path.join(folder, "")):
        raise ValueError("not in Triton's cache")
    return path


def _parts(kernel: Kernel, launch: Launch, config: Config, device: Device) -> Iterator[str]:
    """Everything that decides what Triton compiles."""
    yield f"{_FORMAT} {kernel.name} {kernel.source_hash} {alignment_class(launch)}"
    yield repr([(meta.dtype, meta.misalignment) for meta in (*launch.inputs, *launch.outputs)])
    yield repr(sorted(config.items()))
    for name, slot in launch.arguments.items():
        if isinstance(slot, Constant) and not callable(slot.value):
            yield f"{name}={slot.value!r}"
    yield f"{device.compute_capability} {_installation()}"
    yield repr(sorted(_settings()))


def _settings() -> Iterator[tuple[str, str]]:
    for name, value in os.environ.items():
        if name.startswith("TRITON_") and name not in _ELSEWHERE:
            yield name, value


@cache
def _installation() -> str:
    """Triton's version, and what tells one build of it from another, without reading it."""
    folder = Path(triton.__file__).parent
    parts = [triton.__version__, str(folder)]
    for file in (folder / "_C" / "libtriton.so", folder / "compiler" / "compiler.py"):
        found = file.stat()
        parts.append(f"{found.st_size} {found.st_mtime_ns}")
    return " ".join(parts)


def _as_tuples(kind: Any) -> Any:
    """A signature has tuples where JSON has lists."""
    return tuple(_as_tuples(each) for each in kind) if isinstance(kind, list) else kind
