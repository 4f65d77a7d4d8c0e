"""The matmul template: its plan, its arithmetic in the interpreter, its binaries."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.space import context
from tunekit.errors import KernelError
from tunekit.evaluate.compile import Compiled, compile_for, compile_launch
from tunekit.kernels import matmul
from tunekit.kernels.linear_library import LINEAR_KERNELS, linear_gelu
from tunekit.kernels.matmul import matmul_check_shape, may_split, precision_of, split_buffers
from tunekit.kernels.plan import Constant, Descriptor, Launch, TensorMeta, alignment_class

H100, RTX4090 = DEVICES["h100"], DEVICES["rtx4090"]
Interpret = Callable[[Sequence[dict[str, Any]]], list[Any]]


def _config(**axes: int) -> Config:
    default = {"BLOCK_M": 16, "BLOCK_N": 32, "BLOCK_K": 32, "GROUP_M": 8, "SPLIT_K": 1}
    return Config(default | {"SCHEDULE": 1, "num_warps": 4, "num_stages": 3} | axes)


def _launch(shape: tuple[int, ...], dtype: str = "float16", device: str = "h100") -> Launch:
    return linear_gelu.launch_for(shape, dtype, DEVICES[device])


def _plan(*inputs: torch.Tensor, device: str = "h100") -> Launch:
    return linear_gelu.plan([TensorMeta.of(each) for each in inputs], DEVICES[device])


def _tensors(m: int, n: int, k: int, dtype: str = "float16") -> list[torch.Tensor]:
    kind = getattr(torch, dtype)
    return [
        torch.empty(m, k, dtype=kind),
        torch.empty(n, k, dtype=kind),
        torch.empty(n, dtype=kind),
    ]


@pytest.fixture
def tf32() -> Iterator[Callable[[], None]]:
    """Allows TF32 when called, until the test ends."""
    before = torch.get_float32_matmul_precision()
    yield lambda: torch.set_float32_matmul_precision("high")
    torch.set_float32_matmul_precision(before)


class TestPlan:
    def test_a_program_for_each_tile_and_part(self) -> None:
        launch = _launch((100, 200, 4096))
        assert launch.grid(_config()) == (7 * 7, 1, 1)
        assert launch.grid(_config(SPLIT_K=4)) == (7 * 7, 4, 1)
        assert launch.dims == {"M": 100, "N": 200, "K": 4096}
        assert launch.repeats(_config(SPLIT_K=4)) == 4096 / 32 / 4

    def test_no_more_programs_than_sms_go_through_tiles(self) -> None:
        assert _launch((2048, 2048, 64)).grid(_config(SCHEDULE=2)) == (132, 1, 1)
        assert _launch((16, 64, 64)).grid(_config(SCHEDULE=2)) == (2, 1, 1)

    def test_three_strips_fill_a_round_of_132_sms(self) -> None:
        wide = _config(BLOCK_M=128, BLOCK_N=192)
        assert _launch((4096, 768, 3072)).grid(wide) == (32 * 4, 1, 1)
        # The kernel by pointers has no such schedule.
        pointers = _launch((2048, 2048, 64), device="rtx4090")
        assert pointers.grid(_config(SCHEDULE=2)) == (128 * 64, 1, 1)

    @pytest.mark.parametrize(
        ("device", "dtype", "described"),
        [
            ("h100", "float16", True),
            ("h100", "bfloat16", True),
            ("h100", "float32", False),
            ("rtx4090", "float16", False),
            ("a100", "bfloat16", False),
        ],
    )
    def test_descriptors_from_hopper_on(self, device: str, dtype: str, described: bool) -> None:
        launch = _launch((64, 64, 64), dtype, device)
        assert isinstance(launch.arguments["x"], Descriptor) is described

    def test_descriptors_only_of_rows_at_multiples_of_16_bytes(self) -> None:
        x, weight, bias = _tensors(64, 64, 64)
        wide = torch.empty(64, 72, dtype=torch.float16)
        odd = torch.empty(64, 65, dtype=torch.float16)
        for given, described in ((x, True), (x.T, True), (wide[:, :64], True), (odd[:, :64], False),
                                 (wide[:, 1:65], False), (wide[:, :64:2], False)):  # fmt: skip
            k = given.shape[1]
            launch = _plan(given, weight[:, :k].contiguous(), bias)
            assert isinstance(launch.arguments["x"], Descriptor) is described, given.stride()

    def test_a_result_whose_rows_start_anywhere_is_stored_by_pointers(self) -> None:
        assert isinstance(_launch((64, 64, 64)).arguments["output_tiles"], Descriptor)
        assert _launch((64, 63, 64)).arguments["output_tiles"] == Constant(None)

    def test_strides_and_what_they_are_divisible_by_are_in_the_class(self) -> None:
        sizes = ((64, 64, 64), (64, 64, 1000), (64, 64, 1001), (64, 64, 80))
        launches = [_launch(shape, device="rtx4090") for shape in sizes]
        assert len({alignment_class(each) for each in launches}) == len(sizes)
        assert alignment_class(launches[0]) == alignment_class(
            _launch((640, 64, 64), device="rtx4090")
        )
        x, weight, bias = _tensors(64, 64, 64)
        assert alignment_class(_plan(x, weight, bias)) != alignment_class(_plan(x.T, weight, bias))

    def test_tf32_is_pytorchs_setting(self, tf32: Callable[[], None]) -> None:
        ieee = _launch((64, 64, 64), "float32")
        assert precision_of("float32") == "ieee"
        tf32()
        assert precision_of("float32") == "tf32"
        assert precision_of("float16") == "ieee"
        allowed = _launch((64, 64, 64), "float32")
        assert isinstance(allowed.arguments["x"], Descriptor)
        assert alignment_class(allowed) != alignment_class(ieee)

    @pytest.mark.parametrize(
        ("shapes", "message"),
        [
            (((4, 8), (4, 9), (4,)), "their last dims must be equal"),
            (((4, 8), (4, 8), (5,)), "expected (4,) contiguous"),
            (((2, 4, 8), (4, 8), (4,)), "x has shape (2, 4, 8), expected two dims"),
            (((0, 8), (4, 8), (4,)), "nothing to compute"),
        ],
    )
    def test_what_does_not_go_together_is_refused(
        self, shapes: Sequence[tuple[int, ...]], message: str
    ) -> None:
        metas = [TensorMeta.contiguous(shape, "float16") for shape in shapes]
        with pytest.raises(KernelError) as raised:
            linear_gelu.plan(metas, H100)
        assert message in str(raised.value)

    def test_other_dtypes_counts_and_residuals_are_refused(self) -> None:
        x, weight, bias = (TensorMeta.of(each) for each in _tensors(4, 4, 8))
        with pytest.raises(KernelError, match="one dtype"):
            linear_gelu.plan([x, replace(weight, dtype="bfloat16"), bias], H100)
        with pytest.raises(KernelError, match="takes 3 tensors, got 2"):
            linear_gelu.plan([x, weight], H100)
        residual = TensorMeta.contiguous((4, 5), "float16")
        with pytest.raises(KernelError, match=r"residual 0 has shape \(4, 5\)"):
            LINEAR_KERNELS["linear_add"].plan([x, weight, bias, residual], H100)

    def test_wide_offsets(self) -> None:
        assert _launch((2**20, 64, 4096)).arguments["WIDE"] == Constant(True)
        assert _launch((64, 64, 64)).arguments["WIDE"] == Constant(False)


class TestSplit:
    def test_only_few_tiles_with_long_sums_may_be_split(self) -> None:
        assert may_split(512, 512, 4096)
        assert may_split(16, 1024, 4096)
        assert not may_split(512, 512, 512)
        assert not may_split(16, 4096, 4096)
        assert not may_split(2048, 2048, 2048)
        assert _launch((2048, 2048, 2048)).outputs == (
            TensorMeta.contiguous((2048, 2048), "float16"),
        )

    def test_counters_start_at_zero(self) -> None:
        launch = _launch((512, 512, 4096))
        assert launch.result_count == 1
        assert launch.starts == (None, None, 0)
        assert [meta.dtype for meta in launch.outputs] == ["float16", "float32", "int32"]

    @pytest.mark.parametrize("shape", [(512, 512, 4096), (16, 1024, 4096), (65, 33, 100_000)])
    def test_buffers_hold_what_the_space_allows(self, shape: tuple[int, int, int]) -> None:
        launch = _launch(shape)
        space = linear_gelu.load_space()
        _, partials, counters = launch.outputs
        for config in space.configs(context(launch.dims, 2, H100)):
            for sizes in (shape, matmul_check_shape(shape, config, 0)):
                m, n, _ = sizes
                tiles = -(-m // config["BLOCK_M"]) * -(-n // config["BLOCK_N"])
                if config["SPLIT_K"] > 1:
                    sums = config["BLOCK_M"] * config["BLOCK_N"] * config["SPLIT_K"] * tiles
                    own = split_buffers(*sizes)
                    assert sums <= own[0].numel
                    assert tiles <= own[1].numel
        assert partials.numel <= matmul.SPLIT_ELEMENTS
        assert counters.numel >= 1


class TestCheckShape:
    @pytest.mark.parametrize("device", ["h100", "rtx4090"])
    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    @pytest.mark.parametrize(
        "shape", [(2048, 2048, 2048), (512, 512, 4096), (1000, 1000, 1000), (1, 77, 13), (9, 1, 1)]
    )
    def test_it_is_of_the_same_class(
        self, shape: tuple[int, int, int], dtype: str, device: str
    ) -> None:
        launch = _launch(shape, dtype, device)
        names = context(launch.dims, 4 if dtype == "float32" else 2, DEVICES[device])
        for config in linear_gelu.load_space().configs(names)[::7]:
            small = matmul_check_shape(shape, config, 0)
            assert alignment_class(_launch(small, dtype, device)) == alignment_class(launch)
            assert math.prod(small) <= 529 * 529 * 1280


class TestSpace:
    @pytest.mark.parametrize("itemsize", [2, 4])
    @pytest.mark.parametrize("slug", list(DEVICES))
    def test_every_gpu_and_size_has_a_default(self, slug: str, itemsize: int) -> None:
        space = linear_gelu.load_space()
        for m in (1, 17, 64, 65, 300, 1000, 5000):
            for n in (1, 33, 500, 4096):
                for k in (1, 100, 4096):
                    space.default(context({"M": m, "N": n, "K": k}, itemsize, DEVICES[slug]))

    def test_strips_are_there_where_they_divide_the_columns(self) -> None:
        space = linear_gelu.load_space()
        for n, among in ((768, True), (1024, False)):
            configs = space.configs(context({"M": 4096, "N": n, "K": 3072}, 2, H100))
            assert any(config["BLOCK_N"] == 192 for config in configs) is among

    def test_the_sizes_of_the_benchmark_leave_enough_to_choose_from(self) -> None:
        space = linear_gelu.load_space()
        for shape in ((2048, 2048, 2048), (16, 4096, 4096), (4096, 3072, 768)):
            configs = space.configs(context(dict(zip("MNK", shape, strict=True)), 2, H100))
            assert 60 <= len(configs) <= 400


def _matrix(rows: int, columns: int, how: str, dtype: torch.dtype, scale: float) -> torch.Tensor:
    """Normal values, stored in one of several ways."""
    if how == "transposed":
        return (torch.randn(columns, rows) * scale).to(dtype).T
    extra = {"contiguous": 0, "odd": 1 + columns % 2, "pitch": 16}[how]
    return (torch.randn(rows, columns + extra) * scale).to(dtype)[:, :columns]


LAYOUTS = (
    ("contiguous", "contiguous"),
    ("transposed", "contiguous"),
    ("contiguous", "transposed"),
    ("odd", "odd"),
    ("pitch", "transposed"),
)
CASES = [
    *(("h100", "float16", (20, 40, 72), layout, {}) for layout in LAYOUTS),
    *(("h100", dtype, (20, 40, 72), layout, {}) for dtype in ("bfloat16", "float32")
      for layout in LAYOUTS[1:4:2]),
    *(("rtx4090", "float16", (20, 40, 72), layout, {}) for layout in LAYOUTS[:4]),
    ("rtx4090", "bfloat16", (20, 40, 72), LAYOUTS[0], {}),
    *((device, "float16", shape, LAYOUTS[0], {}) for device in ("h100", "rtx4090")
      for shape in ((1, 1, 1), (1, 33, 7), (33, 48, 65))),
    *((device, "float16", (20, 40, 1056), LAYOUTS[0], {"SPLIT_K": parts, "BLOCK_K": 256})
      for device, parts in (("h100", 2), ("h100", 4), ("rtx4090", 4))),
    ("h100", "float16", (40, 72, 64), LAYOUTS[0], {"SCHEDULE": 2, "GROUP_M": 2}),
    *((device, "float16", (20, 200, 72), layout, {"BLOCK_N": 96})
      for device, layout in (("h100", LAYOUTS[0]), ("h100", LAYOUTS[2]), ("rtx4090", LAYOUTS[3]))),
    ("h100", "float16", (40, 200, 64), LAYOUTS[0], {"BLOCK_N": 96, "SCHEDULE": 2}),
]  # fmt: skip


def test_the_arithmetic(interpret: Interpret) -> None:
    torch.manual_seed(0)
    cases = []
    for device, dtype, (m, n, k), (x_how, weight_how), axes in CASES:
        kind = getattr(torch, dtype)
        inputs = [
            _matrix(m, k, x_how, kind, 1.0),
            _matrix(n, k, weight_how, kind, k**-0.5),
            torch.randn(n).to(kind),
        ]
        config = dict(_config(**axes))
        case = {"kernel": "linear_gelu", "config": config, "inputs": inputs, "device": device}
        cases.append(case)
    for case, given, result in zip(cases, CASES, interpret(cases), strict=True):
        _assert_right("linear_gelu", case["inputs"], result, given)


@pytest.mark.parametrize("name", list(LINEAR_KERNELS))
def test_every_epilogue(name: str, interpret: Interpret) -> None:
    torch.manual_seed(1)
    kernel, (m, n, k) = LINEAR_KERNELS[name], (24, 40, 48)
    inputs = [torch.randn(m, k) * 3, torch.randn(n, k) * k**-0.5, torch.randn(n)]
    inputs += [torch.randn(n, m).T] * (kernel.input_count - 3)
    halves = [each.half() for each in inputs]
    cases = [
        {"kernel": name, "config": dict(_config()), "inputs": given, "device": "h100"}
        for given in (inputs, halves)
    ]
    for case, result in zip(cases, interpret(cases), strict=True):
        _assert_right(name, case["inputs"], result, name)


def _assert_right(
    name: str, inputs: Sequence[torch.Tensor], result: torch.Tensor, what: object
) -> None:
    kernel = LINEAR_KERNELS[name]
    launch = kernel.plan([TensorMeta.of(each) for each in inputs], H100)
    assert kernel.tolerance is not None
    allowed = kernel.tolerance(launch, launch.results[0])
    assert allowed is not None
    expected = kernel.by_reference([each.double() for each in inputs], kernel.scalars)
    error = (result.double() - expected).abs() - allowed.relative * expected.abs()
    assert float(error.max()) <= allowed.absolute, what


def _compiled(shape: tuple[int, int, int], dtype: str, device: str, **axes: int) -> Compiled:
    compile_for(DEVICES[device])
    return compile_launch(_launch(shape, dtype, device), _config(**axes), {})


SQUARE = {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64}


class TestBinaries:
    @pytest.mark.parametrize(
        ("dtype", "axes"),
        [
            ("float16", SQUARE),
            ("bfloat16", SQUARE | {"BLOCK_N": 256, "num_warps": 8, "SCHEDULE": 2}),
            ("float16", SQUARE | {"BLOCK_N": 192, "num_warps": 8}),
        ],
    )
    def test_hopper_copies_by_hardware_and_multiplies_by_warp_groups(
        self, dtype: str, axes: dict[str, int]
    ) -> None:
        compiled = _compiled((2048, 2048, 2048), dtype, "h100", **axes)
        ptx = str(compiled.kernel.asm["ptx"])
        assert "wgmma.mma_async" in ptx
        assert "cp.async.bulk.tensor" in ptx
        assert compiled.binary.spill_bytes == 0
        assert compiled.binary.shared_bytes <= H100.shared_bytes_per_block

    def test_ada_has_neither(self) -> None:
        axes = SQUARE | {"BLOCK_K": 32}
        compiled = _compiled((2048, 2048, 2048), "float16", "rtx4090", **axes)
        ptx = str(compiled.kernel.asm["ptx"])
        assert "mma.sync" in ptx
        assert "wgmma" not in ptx
        assert "cp.async.bulk" not in ptx
        assert compiled.binary.spill_bytes == 0
        assert compiled.binary.shared_bytes <= RTX4090.shared_bytes_per_block
        assert compiled.binary.load_bytes == 16

    def test_rows_that_are_a_multiple_of_8_elements_are_loaded_16_bytes_at_a_time(self) -> None:
        axes = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64}
        for k, is_wide in ((1000, True), (1001, False)):
            compiled = _compiled((1000, 1000, k), "float16", "rtx4090", **axes)
            assert (compiled.binary.load_bytes == 16) is is_wide

    def test_split_sums_do_not_spill(self) -> None:
        axes = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 128, "SPLIT_K": 4}
        compiled = _compiled((512, 512, 4096), "float16", "h100", **axes)
        assert compiled.binary.spill_bytes == 0
        assert "atom" in str(compiled.kernel.asm["ptx"])

    def test_what_the_space_says_of_shared_memory_holds(self) -> None:
        shape = (2048, 2048, 2048)
        launch = _launch(shape)
        configs = linear_gelu.load_space().configs(context(launch.dims, 2, H100))
        largest = max(configs, key=lambda each: (each["BLOCK_M"] + each["BLOCK_N"])
                      * each["BLOCK_K"] * each["num_stages"])  # fmt: skip
        compile_for(H100)
        binary = compile_launch(launch, largest, {}).binary
        assert binary.shared_bytes <= H100.shared_bytes_per_block
