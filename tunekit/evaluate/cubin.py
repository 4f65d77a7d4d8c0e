"""Read a cubin: what its kernel needs of the machine, and what identifies its machine code.

A cubin is an ELF file; `cuobjdump` says the same of it, but costs a process each.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tunekit.errors import WorkerError

_ELF64_LITTLE = b"\x7fELF\x02\x01"
_NO_BITS = 8
"""Section type: takes memory, but no room in the file."""
_INFO = ".nv.info"
# Attributes of `.nv.info`, by the names that nvdisasm gives them.
_PARAM_CBANK, _FRAME_SIZE, _REGCOUNT = 0x0A, 0x11, 0x2F
_SIZED = 4
"""Attribute format: the 16 bits after it are the length of what follows."""

_CODE = (".text.", ".nv.constant", ".nv.global", ".nv.shared.", ".nv.local.", f"{_INFO}.")
"""Beginnings of the names of the sections that make the kernel what it is. The others are symbols,
relocations, and for debuggers: line numbers, file names, the PTX."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a thread and a block of the kernel need.

    Attributes:
        shared_bytes: static shared memory.
        local_bytes: stack frame a thread: spills, for kernels without local arrays.
    """

    registers: int
    shared_bytes: int
    local_bytes: int


class _Section(NamedTuple):
    name: str
    size: int
    content: bytes


def read_resources(cubin: bytes) -> Resources:
    """Registers, shared and local memory of a cubin with one kernel.

    Raises:
        WorkerError: it is no cubin as they are known here.
    """
    registers = local = 0
    shared = 0
    for section in _sections(cubin):
        if section.name == _INFO:
            for attribute, payload in _attributes(section.content):
                # Of each function, by its symbol's index: the kernel, and what it calls.
                if attribute == _REGCOUNT:
                    registers = max(registers, struct.unpack_from("<I", payload, 4)[0])
                elif attribute == _FRAME_SIZE:
                    local = max(local, struct.unpack_from("<I", payload, 4)[0])
        elif section.name.startswith(".nv.shared.") and ".reserved." not in section.name:
            shared += section.size
    if not registers:
        raise WorkerError("the cubin does not say how many registers its kernel needs")
    return Resources(registers, shared, local)


def code_hash(cubin: bytes, num_warps: int, dynamic_shared_bytes: int) -> str:
    """A hash of the machine code and how it is launched, whatever file and line it came from.

    Args:
        cubin: with one kernel.
        num_warps: the same code with another number of threads is another launch.
        dynamic_shared_bytes: shared memory given at the launch.
    """
    found = hashlib.sha256(struct.pack("<II", num_warps, dynamic_shared_bytes))
    for section in sorted(_sections(cubin)):
        kind = next((start for start in _CODE if section.name.startswith(start)), None)
        if kind is None:
            continue
        found.update(struct.pack("<16sQ", kind.encode(), section.size))
        if kind == f"{_INFO}.":
            for attribute, payload in _attributes(section.content):
                # Where the parameters are is told by a symbol's index first, which is no code.
                found.update(bytes([attribute]) + payload[4 * (attribute == _PARAM_CBANK) :])
        else:
            found.update(section.content)
    return found.hexdigest()[:16]


def _sections(cubin: bytes) -> Iterator[_Section]:
    if not cubin.startswith(_ELF64_LITTLE):
        raise WorkerError("the compiler's output is no 64-bit little-endian ELF file")
    try:
        (table,) = struct.unpack_from("<Q", cubin, 0x28)
        entry, count, names_at = struct.unpack_from("<HHH", cubin, 0x3A)
        headers = [struct.unpack_from("<IIQQQQ", cubin, table + entry * i) for i in range(count)]
        names = headers[names_at][4]
        for name, kind, _, _, offset, size in headers:
            start = names + name
            text = cubin[start : cubin.index(b"\0", start)].decode()
            yield _Section(text, size, b"" if kind == _NO_BITS else cubin[offset : offset + size])
    except (struct.error, IndexError, ValueError) as error:
        raise WorkerError(f"the cubin is cut off or damaged: {error}") from error


def _attributes(info: bytes) -> Iterator[tuple[int, bytes]]:
    """Attributes of an `.nv.info` section: each a format, a number, and 16 bits or a payload."""
    at = 0
    while at + 4 <= len(info):
        kind, attribute, value = struct.unpack_from("<BBH", info, at)
        at += 4
        if kind == _SIZED:
            yield attribute, info[at : at + value]
            at += value
        else:
            yield attribute, info[at - 2 : at]
