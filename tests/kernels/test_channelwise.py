from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.core.space import context
from tunekit.errors import KernelError
from tunekit.evaluate.compile import Compiled, compile_launch
from tunekit.kernels import epilogues
from tunekit.kernels.by_channel import channelwise
from tunekit.kernels.folded import folded
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.layouts import Layout, channelwise_metas, floor_of, format_strides
from tunekit.kernels.library import KERNELS
from tunekit.kernels.plan import TensorMeta, alignment_class

H100 = DEVICES["h100"]
ITEMSIZES = {"float32": 4, "float16": 2, "bfloat16": 2}
PARAMETERS = {"none": (), "bias": ("bias",), "scale": ("scale",), "both": ("scale", "bias")}
# Both dims odd, even, by 4, by 16; one of everything; images of few and of many tiles; 1-D, 3-D.
SHAPES = (
    (64, 128, 254, 254),
    (32, 64, 56, 56),
    (16, 100, 7, 7),
    (8, 3, 224, 224),
    (2, 17, 5, 3),
    (1, 1, 1, 1),
    (1, 64, 1, 1),
    (3, 1, 1, 1),
    (1, 1, 33, 31),
    (5, 96, 4, 4),
    (4, 24, 3, 5, 7),
    (2, 32, 16, 16, 16),
    (6, 20, 1000),
    (2, 40, 1040),
    (64, 1000),
    (1, 33),
    (16, 16),
)


def _kernel(layout: Layout, parameters: tuple[str, ...] = ("bias",)) -> Kernel:
    return channelwise(
        f"plain_{layout.name.lower()}_{'_'.join(parameters)}",
        epilogue=epilogues.identity,
        reference=lambda x: x,
        parameters=parameters,
        layout=layout,
    )


def _config(layout: Layout, c: int = 4, p: int = 256, warps: int = 4) -> Config:
    """A tile of c channels at p positions; between contiguous tensors a run of as many elements."""
    if layout is Layout.CONTIGUOUS:
        return Config(BLOCK_SIZE=c * p, num_warps=warps)
    return Config(BLOCK_C=c, BLOCK_P=p, num_warps=warps)


def _blocks(layout: Layout, shape: tuple[int, ...], config: Config) -> list[tuple[int, int]]:
    """How much there is in each dim that is cut into blocks, and the block."""
    inner = math.prod(shape[2:])
    if layout is Layout.CONTIGUOUS:
        return [(math.prod(shape), config["BLOCK_SIZE"])]
    return [(shape[1], config["BLOCK_C"]), (shape[0] * inner, config["BLOCK_P"])]


class TestPlan:
    @pytest.mark.parametrize("layout", Layout)
    def test_metadata_of_inputs_and_output(self, layout: Layout) -> None:
        for shape in SHAPES:
            launch = _kernel(layout, ("scale", "bias")).launch_for(shape, "float16", H100)
            x, *parameters = launch.inputs
            assert (x.shape, x.strides) == (shape, format_strides(shape, layout.input_last))
            assert parameters == [TensorMeta((shape[1],), (1,), "float16")] * 2
            (output,) = launch.outputs
            assert (output.shape, output.dtype) == (shape, "float16")
            assert output.strides == format_strides(shape, layout.output_last)
            inner = math.prod(shape[2:])
            assert launch.dims == {"images": shape[0], "channels": shape[1], "inner": inner}

    @pytest.mark.parametrize("layout", Layout)
    def test_programs_cover_everything_once(self, layout: Layout) -> None:
        for shape, (c, p) in itertools.product(SHAPES, ((1, 32), (4, 1024), (128, 64))):
            launch = _kernel(layout).launch_for(shape, "float32", H100)
            config = _config(layout, c, p)
            programs = math.prod(-(-n // block) for n, block in _blocks(layout, shape, config))
            assert launch.grid(config) == (programs, 1, 1)

    @pytest.mark.parametrize(
        ("layout", "tile", "nbytes"),
        [
            (Layout.CONTIGUOUS, (4, 256), math.inf),  # neighbours run at the same time
            (Layout.TO_CHANNELS_LAST, (16, 64), 64 * 4),
            (Layout.CHANNELS_LAST, (16, 64), 16 * 4),
            (Layout.TO_CONTIGUOUS, (64, 32), 32 * 40 * 4),  # all 40 channels: one run
        ],
    )
    def test_how_long_a_run_a_program_reads(
        self, layout: Layout, tile: tuple[int, int], nbytes: float
    ) -> None:
        launch = _kernel(layout).launch_for((2, 40, 9, 9), "float32", H100)
        assert launch.run_bytes(_config(layout, *tile)) == nbytes

    def test_channels_last_tensors_are_one_problem_wherever_an_image_ends(self) -> None:
        """Between them nothing in the binary depends on the length of an image."""
        kernel = _kernel(Layout.CHANNELS_LAST)
        launches = [
            kernel.launch_for(shape, "float32", H100)
            for shape in ((4, 64, 8, 8), (1, 64, 16, 16), (256, 64), (16, 64, 4, 2, 2))
        ]
        assert len({alignment_class(launch) for launch in launches}) == 1

    @pytest.mark.parametrize(("images", "wide"), [(2**20 - 2**9 - 1, False), (2**20 - 2**9, True)])
    @pytest.mark.parametrize("layout", Layout)
    def test_offsets_are_wide_before_the_last_tile_overflows(
        self, layout: Layout, images: int, wide: bool
    ) -> None:
        launch = _kernel(layout).launch_for((images, 2, 32, 32), "float16", H100)
        assert launch.arguments["WIDE"].value is wide  # type: ignore[union-attr]

    def test_bytes_moved(self) -> None:
        kernel = _kernel(Layout.TO_CHANNELS_LAST, ("scale", "bias"))
        launch = kernel.launch_for((2, 8, 3, 3), "float16", H100)
        assert kernel.bytes_moved(launch) == 2 * (2 * 144 + 2 * 8)


class TestRefused:
    @pytest.mark.parametrize("epilogue", [torch.relu, lambda x: x, None, "relu"])
    def test_an_epilogue_that_is_not_jitted(self, epilogue: object) -> None:
        with pytest.raises(KernelError, match=r"^mine: the epilogue must be a @triton\.jit"):
            channelwise("mine", epilogue=epilogue, reference=torch.relu)

    @pytest.mark.parametrize("parameters", [("bais",), ("bias", "scale"), ("scale",) * 2, "bias"])
    def test_parameters_that_nothing_is_done_with(self, parameters: tuple[str, ...]) -> None:
        with pytest.raises(
            KernelError, match=r"^mine: parameters .*: expected one of: none; bias; scale; scale, b"
        ):
            channelwise(
                "mine",
                epilogue=epilogues.identity,
                reference=lambda x: x,
                parameters=parameters,
            )


class TestKernel:
    @pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
    def test_what_it_makes(self, parameters: tuple[str, ...]) -> None:
        kernel = _kernel(Layout.CHANNELS_LAST, parameters)
        assert kernel.input_count == 1 + len(parameters)
        assert (kernel.elementwise, kernel.batched) == (False, True)
        assert kernel.space == "channelwise-last"
        metas = channelwise_metas((2, 3, 4), "float16", Layout.CHANNELS_LAST, len(parameters))
        assert kernel.input_metas((2, 3, 4), "float16") == metas

    def test_the_hash_is_of_the_code(self) -> None:
        hashes = {_kernel(layout).source_hash for layout in Layout}
        assert len(hashes) == 2  # between contiguous tensors it is another function
        others = {_kernel(Layout.CONTIGUOUS, each).source_hash for each in PARAMETERS.values()}
        assert len(others) == 4

    @pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (2, 4, 3, 5), (2, 4, 2, 3, 2)])
    def test_the_reference_broadcasts_over_channels(self, shape: tuple[int, ...]) -> None:
        x, scale, bias = torch.randn(shape), torch.randn(shape[1]), torch.randn(shape[1])
        found = _kernel(Layout.CONTIGUOUS, ("scale", "bias")).reference(x, scale, bias)
        for channel in range(shape[1]):
            exact = x[:, channel] * scale[channel] + bias[channel]
            torch.testing.assert_close(found[:, channel], exact)

    def test_a_space_of_ones_own(self) -> None:
        kernel = channelwise(
            "mine", epilogue=epilogues.identity, reference=lambda x: x, space="pointwise"
        )
        assert kernel.space == "pointwise"


@pytest.mark.parametrize("layout", Layout)
def test_spaces_are_neither_small_nor_large_and_hold_their_default(layout: Layout) -> None:
    """Large enough to search, small enough to exhaust."""
    kernel = _kernel(layout)
    space = kernel.load_space()
    for shape, (dtype, device) in itertools.product(
        SHAPES, (("float32", H100), ("float16", DEVICES["rtx4090"]))
    ):
        names = context(kernel.launch_for(shape, dtype, device).dims, ITEMSIZES[dtype], device)
        default, configs = space.default(names), space.configs(names)
        assert space.violated(default, names) is None, (shape, dtype)
        assert default in configs
        assert 12 <= len(configs) <= 300, (shape, dtype, len(configs))


class TestCheckShape:
    @pytest.mark.parametrize("layout", Layout)
    def test_it_is_of_the_same_class(self, layout: Layout) -> None:
        """Else another binary would be verified than the one that is measured."""
        kernel = _kernel(layout)
        for shape in SHAPES:
            launch = kernel.launch_for(shape, "float16", H100)
            for config in kernel.load_space().configs(context(launch.dims, 2, H100))[::3]:
                checked = kernel.check_shape(shape, config, 2**16)
                small = kernel.launch_for(checked, "float16", H100)
                assert alignment_class(small) == alignment_class(launch), (shape, config, checked)
                # Of one position, or one element, there can be no more.
                if all(n > 1 for n, _ in _blocks(layout, shape, config)[-1:]):
                    assert math.prod(checked) >= 2**16

    @pytest.mark.parametrize("layout", Layout)
    @pytest.mark.parametrize("count", [0, 2**16])
    def test_it_has_several_blocks_and_a_part_of_one_in_each_dim(
        self, count: int, layout: Layout
    ) -> None:
        kernel = _kernel(layout)
        for shape in SHAPES:
            names = context(kernel.launch_for(shape, "float32", H100).dims, 4, H100)
            for config in kernel.load_space().configs(names)[::5]:
                checked = kernel.check_shape(shape, config, count)
                image = math.prod(checked[1 if layout is Layout.CONTIGUOUS else 2 :])
                for (n, block), (small, _) in zip(
                    _blocks(layout, shape, config), _blocks(layout, checked, config), strict=True
                ):
                    if n == 1:
                        assert small == 1
                        continue
                    assert small > block or small >= 3 * image
                    # A multiple of 16 has no part of 16; images that divide a block leave none.
                    assert small % block or block <= 16 or n % 16 == 0 or block % image == 0

    def test_without_a_count_it_is_small(self) -> None:
        """The interpreter takes milliseconds for each program."""
        for layout in Layout:
            kernel = _kernel(layout)
            for shape in SHAPES:
                launch = kernel.launch_for(shape, "float32", H100)
                for config in kernel.load_space().configs(context(launch.dims, 4, H100))[::7]:
                    checked = kernel.check_shape(shape, config, 0)
                    assert kernel.launch_for(checked, "float32", H100).grid(config)[0] <= 160

    @pytest.mark.parametrize("layout", [Layout.CONTIGUOUS, Layout.TO_CHANNELS_LAST])
    def test_without_a_count_blocks_are_as_before_longer_than_a_plane_or_not(
        self, layout: Layout
    ) -> None:
        for inner, block in itertools.product((7, 31, 100, 1000, 5000), (16, 32, 256, 1024)):
            config = _config(layout, 1, block)
            _, _, *spatial = _kernel(layout).check_shape((2, 8, inner), config, 0)
            assert (block <= floor_of(math.prod(spatial))) is (block <= floor_of(inner))


@pytest.fixture(scope="module", params=["h100"])
def compiling_for(request: pytest.FixtureRequest) -> Iterator[Device]:
    """Triton compiles for an H100, or for whatever GPU a test asks for, whatever there is."""
    from triton.runtime import driver

    from tunekit.evaluate.compile import CompileOnlyDriver

    device = DEVICES[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "_active", CompileOnlyDriver(device))
        yield device


def _compile(
    kernel: Kernel, shape: tuple[int, ...], dtype: str, device: Device, config: Config | None = None
) -> Compiled:
    launch = kernel.launch_for(shape, dtype, device)
    names = context(launch.dims, ITEMSIZES[dtype], device)
    chosen = kernel.load_space().default(names) if config is None else config
    return compile_launch(launch, chosen, kernel.scalars)


def _exchanges(compiled: Compiled) -> int:
    """How often values change threads."""
    return str(compiled.kernel.asm["ttgir"]).count("ttg.convert_layout")


class TestBinary:
    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    @pytest.mark.parametrize("shape", [(64, 128, 254, 254), (16, 100, 7, 7), (3, 5, 7)])
    def test_contiguous_accesses_are_16_bytes_however_long_a_plane_is(
        self, shape: tuple[int, ...], dtype: str, compiling_for: Device
    ) -> None:
        binary = _compile(_kernel(Layout.CONTIGUOUS), shape, dtype, compiling_for).binary
        assert (binary.load_bytes, binary.store_bytes) == (16, 16)
        assert (binary.spill_bytes, binary.shared_bytes) == (0, 0)

    @pytest.mark.parametrize(
        ("channels", "dtype", "nbytes"),
        [(64, "float32", 16), (100, "float16", 8), (64, "float16", 16), (3, "float32", 4)],
    )
    def test_channels_last_accesses_are_as_wide_as_channels_allow(
        self, channels: int, dtype: str, nbytes: int, compiling_for: Device
    ) -> None:
        shape = (16, channels, 7, 7)
        binary = _compile(_kernel(Layout.CHANNELS_LAST), shape, dtype, compiling_for).binary
        assert (binary.load_bytes, binary.store_bytes) == (nbytes, nbytes)
        assert (binary.spill_bytes, binary.shared_bytes) == (0, 0)

    @pytest.mark.parametrize(
        ("shape", "dtype", "of_channels", "of_positions"),
        [
            ((64, 128, 254, 254), "float32", 16, 16),
            ((64, 128, 254, 254), "float16", 16, 8),  # an image is divisible by 4 only
            ((16, 100, 7, 7), "float32", 16, 4),
        ],
    )
    @pytest.mark.parametrize("layout", [Layout.TO_CONTIGUOUS, Layout.TO_CHANNELS_LAST])
    def test_a_transposition_is_wide_on_both_sides_and_goes_once_through_shared_memory(
        self,
        layout: Layout,
        shape: tuple[int, ...],
        dtype: str,
        of_channels: int,
        of_positions: int,
        compiling_for: Device,
    ) -> None:
        compiled = _compile(_kernel(layout, ()), shape, dtype, compiling_for)
        binary = compiled.binary
        wanted = (of_positions, of_channels)
        assert (binary.load_bytes, binary.store_bytes) == (
            wanted[::-1] if layout is Layout.TO_CONTIGUOUS else wanted
        )
        assert binary.spill_bytes == 0
        assert binary.shared_bytes > 0
        assert _exchanges(compiled) == 1

    @pytest.mark.parametrize("compiling_for", ["h100", "rtx4090"], indirect=True)
    @pytest.mark.parametrize("layout", Layout)
    def test_an_op_that_pairs_neighbours_costs_no_exchange(
        self, layout: Layout, compiling_for: Device
    ) -> None:
        """The op's tile is flat, its pairs lie within a thread, and a tile is transposed once."""
        kernel = folded(KERNELS["mish_mish"], layout)
        compiled = _compile(kernel, (64, 128, 254, 254), "float16", compiling_for)
        binary = compiled.binary
        assert _exchanges(compiled) == int(layout.transposes)
        assert binary.spill_bytes == 0
        assert binary.load_bytes == (8 if layout is Layout.TO_CHANNELS_LAST else 16)
        assert binary.store_bytes == (8 if layout is Layout.TO_CONTIGUOUS else 16)

    @pytest.mark.parametrize("layout", Layout)
    def test_the_largest_tile_of_the_fewest_warps_spills_nothing(
        self, layout: Layout, compiling_for: Device
    ) -> None:
        kernel, shape = folded(KERNELS["add_min_gelu_mul"], layout), (32, 64, 56, 56)
        names = context(kernel.launch_for(shape, "float16", compiling_for).dims, 2, compiling_for)
        configs = kernel.load_space().configs(names)
        worst = max(
            configs, key=lambda config: (math.prod(config.meta().values()), -_warps(config))
        )
        assert _compile(kernel, shape, "float16", compiling_for, worst).binary.spill_bytes == 0

    @pytest.mark.parametrize("layout", [Layout.CONTIGUOUS, Layout.TO_CHANNELS_LAST])
    def test_a_long_plane_is_found_without_a_division_for_each_position(
        self, layout: Layout, compiling_for: Device
    ) -> None:
        for inner, each in ((256, False), (128, True)):
            config = _config(layout, 1 if layout is Layout.CONTIGUOUS else 16, 256)
            compiled = _compile(_kernel(layout), (8, 16, inner), "float32", compiling_for, config)
            assert any("tensor<" in line for line in _divisions(compiled)) is each

    @pytest.mark.parametrize("layout", Layout)
    def test_where_elements_are_many_offsets_have_64_bits(
        self, layout: Layout, compiling_for: Device
    ) -> None:
        kernel = _kernel(layout, ())
        for images, bits in ((2**17, 64), (2**10, 32)):
            shape, config = (images, 128, 16, 16), _config(layout, 16, 64)
            compiled = _compile(kernel, shape, "float16", compiling_for, config)
            lines = str(compiled.kernel.asm["ttir"]).splitlines()
            offsets = [line for line in lines if "tt.addptr" in line]
            assert offsets
            assert all(line.rstrip().split(" loc(")[0].endswith(f"xi{bits}>") for line in offsets)

    def test_counting_runs_does_not_overflow(self, compiling_for: Device) -> None:
        """Of one channel positions alone are nearly as many as 32 bits count."""
        for layout in (Layout.CONTIGUOUS, Layout.TO_CONTIGUOUS):
            kernel, config = _kernel(layout), _config(layout, 16, 256)
            launch = kernel.launch_for((1, 1, 2**31 - 16), "float16", compiling_for)
            assert launch.arguments["WIDE"].value is True  # type: ignore[union-attr]
            compiled = compile_launch(launch, config, {})
            assert all(": i64" in line or "xi64>" in line for line in _divisions(compiled))

    def test_scalars_are_not_compiled_in(self, compiling_for: Device) -> None:
        kernel = folded(KERNELS["mish_add_hardtanh_scale"], Layout.CHANNELS_LAST)
        launch = kernel.launch_for((2, 64, 8, 8), "float32", compiling_for)
        config = _config(Layout.CHANNELS_LAST, 64, 32)
        hashes = {
            compile_launch(launch, config, {"add_value": 0.5, "scale": scale}).binary.hash
            for scale in (0.0, 1.0, 16.0)
        }
        assert len(hashes) == 1


def _warps(config: Config) -> int:
    return config["num_warps"]


def _divisions(compiled: Compiled) -> list[str]:
    lines = str(compiled.kernel.asm["ttir"]).splitlines()
    return [line for line in lines if "arith.divsi" in line or "arith.remsi" in line]


# What is launched in the interpreter: an epilogue that tells neighbours apart by arithmetic.
MINE = """
    import triton
    import triton.language as tl

    from tunekit.kernels.layouts import Layout
    from tunekit.kernels.by_channel import channelwise

    @triton.jit
    def bent(x, slope):
        return tl.where(x < 0.0, x * slope, x)

    def reference(x, slope):
        import torch
        return torch.where(x < 0.0, x * slope, x)

    PARAMETERS = {"none": (), "bias": ("bias",), "scale": ("scale",), "both": ("scale", "bias")}
    for layout in Layout:
        for name, parameters in PARAMETERS.items():
            globals()[f"{name}_{int(layout)}"] = channelwise(
                f"{name}_{int(layout)}",
                epilogue=bent,
                reference=reference,
                scalars={"slope": 0.25},
                parameters=parameters,
                layout=layout,
            )
"""

# Images shorter than a tile, as long, longer; parts of tiles in both dims; 2-D to 5-D.
INTERPRETED = (
    ((5, 3), 4, 4),
    ((1, 6, 1, 1), 4, 8),
    ((3, 1, 4, 5), 1, 16),
    ((2, 5, 4, 4), 4, 16),
    ((2, 7, 37), 4, 32),
    ((3, 4, 2, 3, 7), 8, 32),
    ((2, 3, 70), 1, 32),
)
_BOUNDS = {
    "float32": (1e-6, 1e-6),
    "float16": (2.0**-10, 2.0**-19),
    "bfloat16": (2.0**-7, 2.0**-19),
}

Interpreted = Callable[[Layout, str, str], list[tuple[torch.Tensor, torch.Tensor]]]


def _inputs(
    shape: Sequence[int], dtype: str, layout: Layout, parameters: int, seed: int
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    kind = getattr(torch, dtype)
    values = torch.randn(tuple(shape), generator=generator).to(kind)
    strides = format_strides(shape, layout.input_last)
    x = torch.empty_strided(tuple(shape), strides, dtype=kind).copy_(values)
    return [x, *(torch.randn(shape[1], generator=generator).to(kind) for _ in range(parameters))]


def _exact(inputs: Sequence[torch.Tensor], name: str, slope: float) -> torch.Tensor:
    x, *rest = (each.double() for each in inputs)
    spread = [each.view(-1, *[1] * (x.dim() - 2)) for each in rest]
    if name in ("scale", "both"):
        x = x * spread[0]
    if name in ("bias", "both"):
        x = x + spread[-1]
    return F.leaky_relu(x, slope)


@pytest.fixture(scope="module")
def interpreted(
    tmp_path_factory: pytest.TempPathFactory, interpret: Callable[..., list[torch.Tensor]]
) -> Interpreted:
    """Result and exact result of every shape, by layout, dtype and parameters."""
    path = tmp_path_factory.mktemp("kernel") / "channelwise_kernels.py"
    path.write_text(textwrap.dedent(MINE))

    @cache
    def run(layout: Layout, dtype: str, name: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
        cases = [
            {
                "kernel": f"{path}:{name}_{int(layout)}",
                "config": dict(_config(layout, c, p)),
                "inputs": _inputs(shape, dtype, layout, len(PARAMETERS[name]), seed),
                "scalars": {"slope": -1.5},
                "constants": {"WIDE": dtype == "bfloat16"},
            }
            for seed, (shape, c, p) in enumerate(INTERPRETED)
        ]
        results = interpret(cases)
        return [
            (result, _exact(case["inputs"], name, -1.5))  # type: ignore[arg-type]
            for case, result in zip(cases, results, strict=True)
        ]

    return run


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        *((dtype, "both") for dtype in ITEMSIZES),
        ("float32", "none"),
        ("float16", "bias"),
        ("float32", "scale"),
    ],
)
@pytest.mark.parametrize("layout", Layout)
def test_every_element_is_right_in_the_interpreter(
    layout: Layout, dtype: str, name: str, interpreted: Interpreted
) -> None:
    relative, absolute = _BOUNDS[dtype]
    for result, exact in interpreted(layout, dtype, name):
        assert result.dtype == getattr(torch, dtype)
        assert result.stride() == format_strides(exact.shape, layout.output_last)
        torch.testing.assert_close(
            result.double(), exact, rtol=relative, atol=absolute, check_stride=False
        )


@pytest.mark.parametrize("op", ["mish_mish"])
@pytest.mark.parametrize("suffix", ["+bias", "+bias/channels_last", "/to_contiguous"])
def test_library_ops_are_right_in_the_interpreter(
    suffix: str, op: str, interpret: Callable[..., list[torch.Tensor]]
) -> None:
    from tunekit.kernels.folded import SUFFIXES

    layout, bias = SUFFIXES[suffix]
    inputs = _inputs((2, 6, 5, 7), "float32", layout, int(bias), seed=3)
    case = {"kernel": op + suffix, "config": dict(_config(layout, 4, 16)), "inputs": inputs}
    (result,) = interpret([case])
    kernel = KERNELS[op]
    x = inputs[0].double()
    x = x + inputs[1].double().view(-1, 1, 1) if bias else x
    exact = kernel.reference(x, **kernel.scalars)
    torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=1e-6, check_stride=False)


def test_values_may_be_replaced_by_the_result_where_nothing_is_transposed(
    interpret: Callable[..., list[torch.Tensor]],
) -> None:
    layouts = [each for each in Layout if not each.transposes]
    inputs = [_inputs((3, 6, 5, 7), "float32", layout, 1, seed=3) for layout in layouts]
    exact = [_exact(each, "bias", 1.0) for each in inputs]
    results = interpret(
        [
            {
                "kernel": "identity+bias" + ("/channels_last" if layout.input_last else ""),
                "config": dict(_config(layout, 4, 16)),
                "inputs": each,
                "in_place": True,
            }
            for layout, each in zip(layouts, inputs, strict=True)
        ]
    )
    for result, wanted in zip(results, exact, strict=True):
        torch.testing.assert_close(
            result.double(), wanted, rtol=1e-6, atol=1e-6, check_stride=False
        )


def test_the_interpreter_hashes_the_same_source(
    interpret: Callable[..., list[str]],
) -> None:
    """Rows found with it are of the kernel that runs on a GPU."""
    names = ["mish_mish+bias", "identity/to_channels_last", "mish_mish+bias/channels_last"]
    from tunekit.kernels.registry import find_kernel

    found = interpret([{"kernel": name} for name in names])
    assert found == [find_kernel(name).source_hash for name in names]
