from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from originals import ORIGINALS, SAFE

from tunekit.core.device import device_named
from tunekit.kernels.library import KERNELS

ROOT = Path(__file__).resolve().parents[2]
DTYPES = ("float32", "float16", "bfloat16")
SHAPES = {
    "mish_add_hardtanh_scale": (128, 64, 256, 256),
    "add_min_gelu_mul": (128, 128, 130, 130),
    "mish_mish": (64, 128, 254, 254),
}
PROFILED_BLOCKS = {
    "mish_add_hardtanh_scale": 524_288,
    "add_min_gelu_mul": 270_400,
    "mish_mish": 516_128,
}

INTERPRETED = """
import json, torch
import originals
from originals import ORIGINALS, SAFE
from tunekit.evaluate.compile import ordered_arguments
from tunekit.evaluate.verify import TOLERANCES, largest_error

def errors():
    generator = torch.Generator().manual_seed(0)
    for original in ORIGINALS.values():
        for dtype in ("float32", "float16", "bfloat16"):
            x = torch.randn(2, 20, 9, 11, generator=generator).mul(3).to(getattr(torch, dtype))
            x.view(-1)[:6] = torch.tensor([0.0, -0.0, SAFE, -SAFE, 20.0, -20.0])
            expected = original.computes(x.double(), **original.scalars).float()
            launch = original.launch(x.shape, dtype, None)
            for config in original.configs:
                out = torch.full_like(x, float("nan"))
                arguments = launch.bind([x], [out], original.scalars, config)
                launch.function[launch.grid(config)](
                    **ordered_arguments(launch.function, arguments)
                )
                error = largest_error(out, expected, TOLERANCES[dtype])
                yield original.name, dtype, str(config), error

def of_channels_last():
    x = torch.randn(2, 20, 9, 11).permute(0, 1, 3, 2)
    out = torch.empty(2, 11, 9, 20).permute(0, 3, 1, 2).fill_(float("nan"))
    originals.mish_add_hardtanh_scale(x, out)
    original = ORIGINALS["mish_add_hardtanh_scale"]
    expected = original.computes(x.double(), **original.scalars).float()
    return largest_error(out, expected, TOLERANCES["float32"])

def in_place_is_the_same():
    x = torch.randn(3, 700)
    out = torch.empty_like(x)
    originals.mish_mish(x, out)
    originals.mish_mish(x, x)
    return bool(torch.equal(x, out))

def autotuned_configs():
    original, tried = ORIGINALS["add_min_gelu_mul"], []
    def time(run, quantiles):
        run()
        tried.append(1.0)
        return [1.0, 1.0, 1.0]
    original.autotuned.do_bench = time  # there is no GPU to ask
    x = torch.randn(9000)
    out = torch.full_like(x, float("nan"))
    originals.add_min_gelu_mul(x, out)
    expected = original.computes(x.double(), **original.scalars).float()
    return len(tried), largest_error(out, expected, TOLERANCES["float32"])

def large():
    x = torch.full((1, 1, 1, 4), 100.0)
    out = torch.empty_like(x)
    originals.mish_add_hardtanh_scale(x, out)
    return bool(out.isnan().all())

print(json.dumps({
    "errors": list(errors()),
    "channels_last": of_channels_last(),
    "in_place_is_the_same": in_place_is_the_same(),
    "nan_when_large": large(),
    "autotuned": autotuned_configs(),
}))
"""

COMPILED = """
import json, sys
from originals import ORIGINALS
from tunekit.core.device import device_named
from tunekit.evaluate.binary import full_block_path, parse_ptx
from tunekit.evaluate.compile import compile_for, compile_launch

device = device_named("rtx4090")
compile_for(device)
for name, shape in json.loads(sys.argv[1]).items():
    original = ORIGINALS[name]
    for dtype in ("float32", "float16", "bfloat16"):
        config = original.configs[0]
        compiled = compile_launch(original.launch(shape, dtype, device), config, original.scalars)
        ptx = compiled.kernel.asm["ptx"]
        elements = config.get("BLOCK_SIZE", 1024) / (32 * config["num_warps"])
        print(json.dumps({
            "name": name,
            "dtype": dtype,
            "target": "sm_89" in ptx,
            "store_bytes": compiled.binary.store_bytes,
            "spill_bytes": compiled.binary.spill_bytes,
            "instructions_an_element": full_block_path(parse_ptx(ptx)).once.issued / elements,
        }))
"""


def _run(script: str, *arguments: str, **environment: str) -> str:
    """What a script prints in a process of its own: interpreter and compiler cannot share one."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={
            **{key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"},
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")]),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    return json.loads(_run(INTERPRETED, TRITON_INTERPRET="1"))


@pytest.fixture(scope="module")
def compiled() -> list[dict[str, Any]]:
    return [json.loads(line) for line in _run(COMPILED, json.dumps(SHAPES)).splitlines()]


def test_each_original_takes_the_place_of_a_library_kernel() -> None:
    assert ORIGINALS.keys() == KERNELS.keys() - {"identity"}


def test_every_configuration_computes_what_it_is_said_to(interpreted: dict[str, Any]) -> None:
    errors = interpreted["errors"]
    configs = sum(len(original.configs) for original in ORIGINALS.values())
    assert len(errors) == configs * len(DTYPES)
    assert not [line for line in errors if line[-1] > 2.0]


def test_the_tiled_one_follows_strides(interpreted: dict[str, Any]) -> None:
    assert interpreted["channels_last"] < 1.0


def test_mish_mish_may_work_in_place(interpreted: dict[str, Any]) -> None:
    assert interpreted["in_place_is_the_same"]


def test_the_gelu_one_is_autotuned_over_all_of_its_configurations(
    interpreted: dict[str, Any],
) -> None:
    tried, error = interpreted["autotuned"]
    assert tried == len(ORIGINALS["add_min_gelu_mul"].configs) == 4
    assert error < 2.0


def test_mish_add_hardtanh_scale_gives_nan_where_exp_overflows(
    interpreted: dict[str, Any],
) -> None:
    assert interpreted["nan_when_large"]
    assert f"{SAFE:g}" in ORIGINALS["mish_add_hardtanh_scale"].flaw


def test_the_gelu_one_is_not_what_was_meant() -> None:
    original = ORIGINALS["add_min_gelu_mul"]
    x = torch.linspace(-3.0, 1.0, 101, dtype=torch.float64)
    meant = KERNELS[original.name].reference(x, **original.scalars)
    low = (x + 0.5).clamp(max=0.0)
    torch.testing.assert_close(original.computes(x, **original.scalars), meant * low)
    assert (original.computes(x, **original.scalars) - meant).abs().max() > 0.1


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_grid_is_the_one_that_was_profiled(name: str) -> None:
    original = ORIGINALS[name]
    launch = original.launch(SHAPES[name], "float32", device_named("rtx4090"))
    x, y, z = launch.grid(original.configs[0])
    assert x * y * z == PROFILED_BLOCKS[name]


def test_all_compile_for_a_gpu_that_is_not_present(compiled: list[dict[str, Any]]) -> None:
    assert {(each["name"], each["dtype"]) for each in compiled} == {
        (name, dtype) for name in ORIGINALS for dtype in DTYPES
    }
    assert all(each["target"] for each in compiled)
    assert {each["store_bytes"] for each in compiled} == {16}
    assert {each["spill_bytes"] for each in compiled} == {0}


def test_mish_mish_takes_as_many_instructions_as_it_did(compiled: list[dict[str, Any]]) -> None:
    counts = [each["instructions_an_element"] for each in compiled if each["name"] == "mish_mish"]
    assert all(140 < count < 165 for count in counts)
