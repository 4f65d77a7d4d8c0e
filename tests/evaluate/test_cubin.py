from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import triton
from triton.runtime import driver

from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.errors import WorkerError
from tunekit.evaluate.compile import compile_for, compile_launch
from tunekit.evaluate.cubin import code_hash, read_resources
from tunekit.kernels.library import KERNELS
from tunekit.kernels.plan import Input, Integer, Launch, Output, TensorMeta

FLAT = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
LOOP = Config(BLOCK_SIZE=2048, VEC=4, num_warps=8, num_stages=3)
SPILLS = Config(FLAT, maxnreg=24)

KERNEL = """
    import triton
    import triton.language as tl
    {comment}
    @triton.jit
    def {name}(x, y, n, BLOCK_SIZE: tl.constexpr):
        offsets = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        mask = offsets < n
        tl.store(y + offsets, tl.load(x + offsets, mask=mask) * {factor}, mask=mask)
"""


def _cubin(op: str, config: Config, device: Device, dtype: str = "float32") -> bytes:
    launch = KERNELS[op].launch_for((2**26 + 8,), dtype, device)
    cubin: bytes = compile_launch(launch, config, KERNELS[op].scalars).kernel.asm["cubin"]
    return cubin


def _cuobjdump(cubin: bytes, directory: Path) -> tuple[int, int, int]:
    """Registers, shared and local memory as NVIDIA's tool reads them."""
    path = directory / "kernel.cubin"
    path.write_bytes(cubin)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    said = subprocess.run([tool, "-res-usage", path], capture_output=True, text=True, check=True)
    found = dict(re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", said.stdout))
    return int(found["REG"]), int(found["SHARED"]), int(found["STACK"]) + int(found["LOCAL"])


class TestReadResources:
    @pytest.mark.parametrize("slug", ["rtx4090", "h100", "b200"])
    def test_it_reads_what_cuobjdump_reads(
        self, slug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(driver, "_active", None)
        compile_for(DEVICES[slug])
        spilled = 0
        for op, config, dtype in (
            ("mish_mish", FLAT, "float32"),
            ("mish_mish", LOOP, "float32"),
            ("mish_mish", SPILLS, "float32"),
            ("add_min_gelu_mul", Config(FLAT, num_warps=8, VEC=8), "bfloat16"),
        ):
            cubin = _cubin(op, config, DEVICES[slug], dtype)
            read = read_resources(cubin)
            figures = (read.registers, read.shared_bytes, read.local_bytes)
            assert figures == _cuobjdump(cubin, tmp_path), (op, config)
            spilled += read.local_bytes > 0
        assert spilled == 1

    @pytest.mark.parametrize("damage", [lambda c: b"not a cubin", lambda c: c[:300]])
    def test_what_is_no_cubin(self, damage: Callable[[bytes], bytes], compiling: Device) -> None:
        with pytest.raises(WorkerError, match=r"cubin|ELF"):
            read_resources(damage(_cubin("identity", FLAT, compiling)))


class TestCodeHash:
    @pytest.fixture
    def made(self, compiling: Device, tmp_path: Path) -> Callable[..., Any]:
        """Compiles KERNEL out of a file of that name."""

        def make(file: str, num_warps: int = 4, **text: object) -> Any:
            path = tmp_path / f"{file}.py"
            source = KERNEL.format(**({"comment": "", "name": "kernel", "factor": 2} | text))
            path.write_text(re.sub("(?m)^    ", "", source))
            spec = importlib.util.spec_from_file_location(file, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            meta = TensorMeta.contiguous((4096,), "float32")
            launch = Launch(
                getattr(module, str(text.get("name", "kernel"))),
                {"x": Input(0), "y": Output(0), "n": Integer(4096)},
                (meta,),
                (meta,),
                {"n": 4096},
                lambda config: (4, 1, 1),
            )
            return compile_launch(launch, Config(BLOCK_SIZE=1024, num_warps=num_warps), {})

        return make

    def test_where_the_source_is_does_not_matter(self, made: Callable[..., Any]) -> None:
        one = made("one")
        for other in (
            made("another_file", comment="\n" * 40),
            made("third", name="kernel_of_another_name"),
        ):
            assert other.kernel.asm["cubin"] != one.kernel.asm["cubin"]
            assert other.binary == one.binary

    def test_what_is_computed_does(self, made: Callable[..., Any]) -> None:
        assert made("one").binary.hash != made("two", factor=3).binary.hash

    def test_so_does_how_it_is_launched(self, made: Callable[..., Any]) -> None:
        assert made("one").binary.hash != made("one", num_warps=8).binary.hash
        cubin = made("one").kernel.asm["cubin"]
        launches = ((4, 0), (8, 0), (4, 1024))
        assert len({code_hash(cubin, warps, shared) for warps, shared in launches}) == 3

    def test_so_does_the_width_of_a_load(self, compiling: Device) -> None:
        narrow, wide = (
            code_hash(_cubin("identity", Config(FLAT, VEC=vec), compiling), 4, 0) for vec in (1, 4)
        )
        assert narrow != wide

    def test_what_the_compiler_makes_nothing_of_does_not(self, compiling: Device) -> None:
        """Two configurations that are one: a load has 16 bytes either way."""
        one, other = (
            code_hash(_cubin("identity", Config(FLAT, VEC=vec), compiling), 4, 0) for vec in (4, 8)
        )
        assert one == other
