"""What a decorated kernel is called in a database, and a hash of all that computes its result."""

from __future__ import annotations

import hashlib
import inspect
import sys
from pathlib import Path
from typing import Any

from tunekit.kernels.jit import beneath, heuristics_of
from tunekit.kernels.source_hash import source_hash

_SCRIPT = "__main__"


def kernel_name(function: Any) -> str:
    """`module:function`, by which rows name a kernel; nobody imports anything by it.

    What a script defines is named after its file, as it is where that is imported.
    """
    python = beneath(function).fn
    module = python.__module__
    if module == _SCRIPT:
        module = _module_of_script()
    return f"{module}:{python.__qualname__}"


def kernel_hash(function: Any) -> str:
    """Of the kernel's source and of the heuristics that choose some of its constants.

    Raises:
        KernelError: the source of one of them cannot be read.
    """
    own = source_hash(beneath(function))
    heuristics = [
        f"{name}={_hash_of(rule)}" for name, rule in sorted(heuristics_of(function).items())
    ]
    if not heuristics:
        return own
    text = "\n".join([own, *heuristics])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _hash_of(rule: Any) -> str:
    """Of a function its source, of anything else that can be called what it is."""
    return source_hash(rule) if inspect.isfunction(rule) else type(rule).__qualname__


def _module_of_script() -> str:
    main = sys.modules[_SCRIPT]
    if spec := getattr(main, "__spec__", None):  # python -m package.module
        return str(spec.name).removesuffix(f".{_SCRIPT}")
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else _SCRIPT
