from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import pytest
import torch
from triton.runtime import driver
from triton.runtime.jit import JITCallable

from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.core.evaluation import Binary
from tunekit.errors import WorkerError
from tunekit.evaluate import compile
from tunekit.evaluate.compile import (
    Compiled,
    compile_ahead,
    compile_for,
    compile_launch,
    ordered_arguments,
    stand_in,
)
from tunekit.kernels.library import KERNELS
from tunekit.kernels.plan import Constant, Input, Integer, Launch, Output, TensorMeta
from tunekit.kernels.pointwise import pointwise_kernel
from tunekit.kernels.registry import find_kernel

FLAT = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)

HINTED = """
    import triton
    import triton.language as tl

    @triton.jit
    def hinted(x, y, n, BLOCK_SIZE: tl.constexpr):
        offsets = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        value = tl.load(x + offsets, eviction_policy="evict_last")
        tl.store(y + offsets, value, eviction_policy="evict_first")
"""

BROKEN = """
    import triton
    import triton.language as tl
    from tunekit.kernels.kernel import pointwise

    @triton.jit
    def broken(x):
        tl.static_assert(False, "no such thing")
        return x

    kernel = pointwise("broken", epilogue=broken, reference=lambda x: x)
"""


def _compile(config: Config = FLAT, op: str = "mish_mish", device: str = "rtx4090") -> Compiled:
    launch = KERNELS[op].launch_for((4096,), "float32", DEVICES[device])
    return compile_launch(launch, config, KERNELS[op].scalars)


class TestCompileLaunch:
    def test_it_compiles_for_the_device_that_was_named(self, compiling: Device) -> None:
        assert _compile().kernel.metadata.target.arch == 89

    def test_another_device_may_be_named_later(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Triton keeps binaries by device index: those of the first must not serve the second."""
        monkeypatch.setattr(driver, "_active", None)
        found = {}
        for device in ("rtx4090", "h100", "rtx4090"):
            compile_for(DEVICES[device])
            compiled = _compile(device=device)
            assert compiled.kernel.metadata.target.arch == DEVICES[device].compute_capability
            found[device] = compiled.binary.hash
        assert found["rtx4090"] != found["h100"]

    def test_the_configuration_reaches_the_compiler(self, compiling: Device) -> None:
        metadata = _compile(Config(FLAT, num_warps=8)).kernel.metadata
        assert metadata.num_warps == 8
        constants = _compile(Config(FLAT, BLOCK_SIZE=512)).kernel.src.constants
        assert 512 in constants.values()

    def test_the_binary_says_what_was_made(self, compiling: Device) -> None:
        binary = _compile().binary
        assert len(binary.hash) == 16
        assert 16 <= binary.registers <= 255
        assert (binary.load_bytes, binary.store_bytes) == (16, 16)
        assert (binary.shared_bytes, binary.spill_bytes) == (0, 0)

    def test_equal_hashes_are_equal_machine_code(self, compiling: Device) -> None:
        assert _compile().binary == _compile().binary
        assert _compile(Config(FLAT, VEC=8)).binary.hash == _compile().binary.hash  # 16 bytes both
        assert _compile(Config(FLAT, VEC=2)).binary.hash != _compile().binary.hash

    def test_the_same_binary_can_be_loaded_again(self, compiling: Device) -> None:
        compiled = _compile()
        again = compiled.loaded_again()
        assert again.kernel is not compiled.kernel
        assert again.kernel.asm["cubin"] == compiled.kernel.asm["cubin"]
        assert again.binary == compiled.binary

    def test_accesses_with_cache_hints_are_seen(
        self, compiling: Device, write_module: Callable[..., Path]
    ) -> None:
        import importlib.util

        spec = importlib.util.spec_from_file_location("hinted", write_module(HINTED))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        meta = TensorMeta.contiguous((4096,), "float32")
        launch = Launch(
            module.hinted,
            {"x": Input(0), "y": Output(0), "n": Integer(4096)},
            (meta,),
            (meta,),
            {"n": 4096},
            lambda config: (4, 1, 1),
        )
        compiled = compile_launch(launch, Config(BLOCK_SIZE=1024, num_warps=4), {})
        assert "evict_last" in compiled.kernel.asm["ptx"]
        assert (compiled.binary.load_bytes, compiled.binary.store_bytes) == (16, 16)

    def test_what_does_not_compile_raises(
        self, compiling: Device, write_module: Callable[..., Path]
    ) -> None:
        launch = find_kernel(f"{write_module(BROKEN)}:kernel").launch_for(
            (64,), "float32", compiling
        )
        with pytest.raises(Exception, match="at ") as raised:
            compile_launch(launch, FLAT, {})
        assert type(raised.value).__name__ == "CompilationError"


class TestCompileAhead:
    def test_it_compiles_into_the_cache_and_keeps_failures_to_itself(
        self,
        compiling: Device,
        write_module: Callable[..., Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
        kernel = KERNELS["identity"]
        launch = kernel.launch_for((5000,), "float16", compiling)
        broken = find_kernel(f"{write_module(BROKEN)}:kernel").launch_for(
            (64,), "float32", compiling
        )
        configs = [Config(FLAT, BLOCK_SIZE=block) for block in (256, 512)]
        compile_ahead(
            [(broken, FLAT, {}), *((launch, config, {}) for config in configs)], threads=2
        )
        cubins = {path.read_bytes() for path in (tmp_path / "cache").rglob("*.cubin")}
        assert len(cubins) == 2
        for config in configs:
            assert compile_launch(launch, config, {}).kernel.asm["cubin"] in cubins


class TestLaunch:
    def test_arguments_are_passed_by_position_on_the_grid(self) -> None:
        calls = []

        class Kernel:
            def __getitem__(self, grid: tuple[int, int, int]) -> Callable[..., None]:
                return lambda *arguments: calls.append((grid, arguments))

        binary = Binary("", 0, 0, 0, 0, 0)
        Compiled(Kernel(), binary).launch((3, 1, 1), {"x": 1, "y": (2,), "n": 3})
        assert calls == [((3, 1, 1), (1, (2,), 3))]

    def test_arguments_are_put_in_the_order_of_the_signature(self) -> None:
        launch = KERNELS["mish_mish"].launch_for((64,), "float32", DEVICES["h100"])
        shuffled = Config(num_stages=1, num_warps=4, VEC=4, BLOCK_SIZE=128)
        ordered = ordered_arguments(
            pointwise_kernel, launch.bind([torch.ones(1)], [torch.ones(1)], {}, shuffled)
        )
        assert list(ordered) == list(pointwise_kernel.arg_names)
        assert "num_warps" not in ordered  # a launch option, no parameter of the kernel
        assert ordered["num_stages"] == 1  # both


class TestStandIn:
    @pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2**33,)])
    def test_no_memory_whatever_the_size(self, shape: tuple[int, ...]) -> None:
        tensor = stand_in(TensorMeta.contiguous(shape, "bfloat16"))
        assert tensor.is_meta
        assert tuple(tensor.shape) == shape

    def test_strides_are_kept(self) -> None:
        meta = TensorMeta((2, 3), (1, 2), "float16")
        assert stand_in(meta).stride() == (1, 2)


def test_constants_are_passed_as_they_are() -> None:
    launch = KERNELS["mish_mish"].launch_for((64,), "float32", DEVICES["h100"])
    bound = launch.bind(["x"], ["y"], {}, FLAT)
    epilogue = launch.arguments["epilogue"]
    assert isinstance(epilogue, Constant)
    assert bound["epilogue"] is epilogue.value


def test_no_two_threads_parse_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsing, overlaps = Lock(), []

    def parse(function: int) -> None:
        if parsing.acquire(blocking=False):
            os.sched_yield()
            parsing.release()
        else:
            overlaps.append(function)

    monkeypatch.setattr(JITCallable, "parse", parse)
    with compile.one_parse_at_a_time(), ThreadPoolExecutor(4) as executor:
        list(executor.map(JITCallable.parse, range(500)))
    assert overlaps == []
    assert JITCallable.parse is parse


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_takes_no_file_is_no_configuration_s_fault(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(code, os.strerror(code), "/cache/a.ptx")

    monkeypatch.setattr(compile, "_warmup", refuse)
    with pytest.raises(
        WorkerError, match=r"its files: /cache/a\.ptx: .*; make room, or set TRITON"
    ):
        _compile()
