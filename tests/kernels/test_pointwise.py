from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.errors import KernelError
from tunekit.evaluate.compile import Compiled, compile_launch
from tunekit.kernels.library import KERNELS
from tunekit.kernels.plan import TensorMeta, alignment_class
from tunekit.kernels.pointwise import pointwise_check_shape, programs_per_sm
from tunekit.kernels.registry import find_kernel

H100 = DEVICES["h100"]
ITEMSIZES = {"float32": 4, "float16": 2, "bfloat16": 2}

GATE = """
    import torch.nn.functional as F
    import triton
    import triton.language as tl

    from tunekit.kernels.kernel import pointwise

    @triton.jit
    def silu_gate(x, gate, residual, scale):
        return x * tl.sigmoid(x) * gate * scale + residual

    gated = pointwise(
        "gated",
        epilogue=silu_gate,
        reference=lambda x, gate, residual, scale: F.silu(x) * gate * scale + residual,
        scalars={"scale": 0.5},
        input_count=3,
    )
"""


def _config(block: int = 1024, vec: int = 4, warps: int = 4, stages: int = 1) -> Config:
    return Config(BLOCK_SIZE=block, VEC=vec, num_warps=warps, num_stages=stages)


def _compile(n: int, dtype: str, config: Config, device: Device, op: str = "identity") -> Compiled:
    kernel = KERNELS[op]
    return compile_launch(kernel.launch_for((n,), dtype, device), config, kernel.scalars)


def _ptx(compiled: Compiled) -> str:
    return str(compiled.kernel.asm["ptx"])


class TestPlan:
    @pytest.mark.parametrize(("n", "programs"), [(1, 1), (1024, 1), (1025, 2), (10_000, 10)])
    def test_a_flat_grid_covers_every_element_once(self, n: int, programs: int) -> None:
        launch = KERNELS["mish_mish"].launch_for((n,), "float32", H100)
        assert launch.grid(_config()) == (programs, 1, 1)
        assert launch.repeats(_config()) == 0.0
        assert launch.dims == {"n": n}

    def test_a_looped_grid_is_as_many_programs_as_are_resident(self) -> None:
        launch = KERNELS["mish_mish"].launch_for((2**26,), "float32", H100)
        config = _config(warps=8, stages=2)
        assert programs_per_sm(8, H100) == 8
        assert launch.grid(config) == (132 * 8, 1, 1)
        assert launch.repeats(config) == pytest.approx(2**26 / 1024 / (132 * 8))

    def test_a_looped_grid_has_no_program_without_a_block(self) -> None:
        launch = KERNELS["mish_mish"].launch_for((3000,), "float32", H100)
        assert launch.grid(_config(stages=3)) == (3, 1, 1)

    @pytest.mark.parametrize(
        ("warps", "device", "programs"),
        [(1, H100, 32), (16, H100, 4), (1, DEVICES["rtx4090"], 24), (64, DEVICES["rtx4090"], 1)],
    )
    def test_programs_per_sm(self, warps: int, device: Device, programs: int) -> None:
        assert programs_per_sm(warps, device) == programs

    def test_the_output_is_like_the_first_input(self) -> None:
        meta = TensorMeta((2, 4, 3), (12, 1, 4), "bfloat16", 4)
        (output,) = KERNELS["identity"].plan((meta,), H100).outputs
        assert output == TensorMeta((2, 4, 3), (12, 1, 4), "bfloat16", 0)

    @pytest.mark.parametrize(
        "strides", [(12, 4, 1), (1, 2, 6), (4, 8, 1)], ids=["contiguous", "reversed", "permuted"]
    )
    def test_dense_inputs_are_taken_in_any_order(self, strides: tuple[int, ...]) -> None:
        meta = TensorMeta((2, 3, 4), strides, "float32")
        assert KERNELS["identity"].plan((meta,), H100).dims == {"n": 24}

    def test_the_stride_of_an_axis_of_one_element_means_nothing(self) -> None:
        meta = TensorMeta((1, 4), (999, 1), "float32")
        assert KERNELS["identity"].plan((meta,), H100).dims == {"n": 4}

    @pytest.mark.parametrize(
        ("shape", "strides"),
        [((4,), (2,)), ((4, 4), (8, 1)), ((4, 4), (0, 1)), ((3, 4), (1, 1))],
        ids=["step", "gap", "expanded", "overlap"],
    )
    def test_inputs_with_gaps_or_overlaps_are_refused(
        self, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> None:
        meta = TensorMeta(shape, strides, "float32")
        with pytest.raises(KernelError, match=r"gaps or overlaps.*\.contiguous\(\)"):
            KERNELS["identity"].plan((meta,), H100)

    @pytest.mark.parametrize("other", [TensorMeta((4, 3), (3, 1), "float32"),
                                       TensorMeta((3, 4), (1, 3), "float32")])  # fmt: skip
    def test_inputs_must_be_alike(self, other: TensorMeta, gate: str) -> None:
        first = TensorMeta.contiguous((3, 4), "float32")
        with pytest.raises(KernelError, match=r"input 2 has shape .* needs them equal"):
            find_kernel(gate).plan((first, first, other), H100)


class TestCheckShape:
    @pytest.mark.parametrize("n", [2, 15, 16, 17, 1000, 4096, 100_003])
    @pytest.mark.parametrize("block", [128, 1024, 8192])
    @pytest.mark.parametrize("count", [0, 2**16])
    @pytest.mark.parametrize("stages", [1, 2])
    def test_it_is_a_part_block_of_the_same_class(
        self, n: int, block: int, count: int, stages: int
    ) -> None:
        config = _config(block, stages=stages)
        (checked,) = pointwise_check_shape((n,), config, count)
        assert checked >= max(count, 2 * block)
        assert 0 < checked % block < block
        launches = (
            KERNELS["identity"].launch_for((size,), "float16", H100) for size in (n, checked)
        )
        assert len({alignment_class(launch) for launch in launches}) == 1

    def test_one_element_is_checked_as_one(self) -> None:
        assert pointwise_check_shape((1, 1), _config(), 2**16) == (1,)

    def test_a_loop_goes_round_more_than_once_for_two_programs(self) -> None:
        (checked,) = pointwise_check_shape((64,), _config(128, stages=2), 0)
        blocks = checked // 128
        assert blocks // 2 >= 2
        assert blocks % 2 == 1  # one of the two repeats it once more


class TestBinary:
    @pytest.mark.parametrize("n", [4096, 4097, 4104])
    @pytest.mark.parametrize("vec", [1, 2, 4, 8])
    @pytest.mark.parametrize("dtype", list(ITEMSIZES))
    def test_vec_is_the_width_of_a_load_whatever_divides_n(
        self, dtype: str, vec: int, n: int, compiling: Device
    ) -> None:
        binary = _compile(n, dtype, _config(2048, vec), compiling).binary
        assert binary.load_bytes == binary.store_bytes == min(vec * ITEMSIZES[dtype], 16)

    @pytest.mark.parametrize("dtype", list(ITEMSIZES))
    def test_the_tail_alone_is_masked(self, dtype: str, compiling: Device) -> None:
        ptx = _ptx(_compile(4097, dtype, _config(vec=16 // ITEMSIZES[dtype]), compiling))
        loads = re.findall(r"^\s*(@%p\d+ )?ld\.global(\S*)", ptx, re.MULTILINE)
        assert ("", ".v4.b32") in loads  # a full block: wide, without a predicate
        assert any(guard and ".v" not in width for guard, width in loads)  # the tail: narrow
        assert all(".v4.b32" in width for guard, width in loads if not guard)

    def test_misaligned_input_is_loaded_narrowly(self, compiling: Device) -> None:
        meta = TensorMeta((4096,), (1,), "float32", misalignment=4)
        launch = KERNELS["identity"].plan((meta,), compiling)
        binary = compile_launch(launch, _config(), {}).binary
        assert (binary.load_bytes, binary.store_bytes) == (4, 16)

    @pytest.mark.parametrize("dtype", list(ITEMSIZES))
    def test_stages_above_one_are_a_pipelined_loop(self, dtype: str, compiling: Device) -> None:
        vec = 16 // ITEMSIZES[dtype]
        flat, two, three = (
            _compile(2**26, dtype, _config(vec=vec, stages=stages), compiling)
            for stages in (1, 2, 3)
        )
        assert len({compiled.binary.hash for compiled in (flat, two, three)}) == 3
        assert "cp.async" not in _ptx(flat)
        assert flat.binary.shared_bytes == 0
        for compiled in (two, three):
            assert re.search(r"cp\.async\.\w+\.shared\.global", _ptx(compiled))
            assert _has_backward_branch(_ptx(compiled))
            assert compiled.binary.load_bytes == 16
        assert not _has_backward_branch(_ptx(flat))
        # Each further stage keeps one more block in shared memory.
        block_bytes = 1024 * ITEMSIZES[dtype]
        assert two.binary.shared_bytes >= block_bytes
        assert three.binary.shared_bytes >= two.binary.shared_bytes + block_bytes

    @pytest.mark.parametrize("stages", [1, 2])
    @pytest.mark.parametrize("n", [2**31 - 2**20, 2**31 + 16, 2**33 + 1])
    def test_from_2_to_the_31_offsets_have_64_bits(
        self, n: int, stages: int, compiling: Device
    ) -> None:
        compiled = _compile(n, "float32", _config(stages=stages), compiling)
        launch = KERNELS["identity"].launch_for((n,), "float32", compiling)
        width = "i64" if n >= 2**31 else "i32"
        assert launch.arguments["WIDE"].value is True
        assert f",{width}" in alignment_class(launch)
        assert compiled.kernel.src.signature["n"] == width
        assert "tensor<1024xi64>" in compiled.kernel.asm["ttir"]

    @pytest.mark.parametrize("stages", [1, 2])
    def test_below_offsets_have_32_bits(self, stages: int, compiling: Device) -> None:
        n = 2**31 - 2**20 - 16
        compiled = _compile(n, "float32", _config(stages=stages), compiling)
        launch = KERNELS["identity"].launch_for((n,), "float32", compiling)
        assert launch.arguments["WIDE"].value is False
        assert "xi64>" not in compiled.kernel.asm["ttir"]

    def test_scalars_are_not_compiled_in(self, compiling: Device) -> None:
        kernel = KERNELS["add_min_gelu_mul"]
        launch = kernel.launch_for((4096,), "float32", compiling)
        hashes = {
            compile_launch(launch, _config(), {"add_value": a, "multiply_value": m}).binary.hash
            for a, m in itertools.product((0.0, 0.5), (1.0, 3.0))
        }
        assert len(hashes) == 1

    def test_several_inputs_compile_with_one_store(self, compiling: Device, gate: str) -> None:
        kernel = find_kernel(gate)
        launch = kernel.launch_for((4096,), "float32", compiling)
        compiled = compile_launch(launch, _config(512), kernel.scalars)
        full_block = re.findall(r"^\s*(ld|st)\.global", _ptx(compiled), re.MULTILINE)
        assert (full_block.count("ld"), full_block.count("st")) == (3, 1)


@pytest.fixture
def gate(write_module: Callable[..., Path]) -> str:
    return f"{write_module(GATE)}:gated"


# Sizes below a block, around one, and around several rounds of a loop over two programs.
SIZES = (1, 127, 128, 129, 1000, 9 * 128, 9 * 128 + 1)


@pytest.fixture(scope="module")
def gated(
    tmp_path_factory: pytest.TempPathFactory, interpret: Callable[..., list[torch.Tensor]]
) -> dict[tuple[int, int, bool], tuple[torch.Tensor, torch.Tensor]]:
    """Result and reference of the gate by (size, stages, whether into its first input)."""
    path = tmp_path_factory.mktemp("kernel") / "gates.py"
    path.write_text(textwrap.dedent(GATE))
    generator = torch.Generator().manual_seed(1)
    cases = {
        (n, stages, in_place): {
            "kernel": f"{path}:gated",
            "config": dict(_config(128, stages=stages)),
            "inputs": [torch.randn(n, generator=generator) for _ in range(3)],
            "scalars": {"scale": -1.5},
            "in_place": in_place,
        }
        for n, stages, in_place in itertools.product(SIZES, (1, 2, 3), (False, True))
    }
    results = interpret(list(cases.values()))
    return {
        key: (result, _gate_in_float64(*case["inputs"], -1.5))
        for (key, case), result in zip(cases.items(), results, strict=True)
    }


@pytest.mark.parametrize("in_place", [False, True], ids=["", "in place"])
@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("n", SIZES)
def test_every_element_of_an_epilogue_of_several_inputs_is_written_once(
    n: int,
    stages: int,
    in_place: bool,
    gated: dict[tuple[int, int, bool], tuple[torch.Tensor, torch.Tensor]],
) -> None:
    """Into nan: at least once; in place, where a second time would read the first: at most."""
    result, expected = gated[n, stages, in_place]
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-6)


def _gate_in_float64(
    x: torch.Tensor, gate: torch.Tensor, residual: torch.Tensor, scale: float
) -> torch.Tensor:
    return F.silu(x.double()) * gate.double() * scale + residual.double()


def _has_backward_branch(ptx: str) -> bool:
    seen = set()
    for line in ptx.splitlines():
        if label := re.match(r"\s*(\$\w+):", line):
            seen.add(label[1])
        elif (branch := re.search(r"\bbra\S*\s+(\$\w+)", line)) and branch[1] in seen:
            return True
    return False


def test_programs_fit_a_device_with_few_slots() -> None:
    assert programs_per_sm(1, replace(H100, max_blocks_per_sm=2)) == 2
