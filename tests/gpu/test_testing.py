"""`tunekit.testing` where kernels are compiled."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tunekit.kernels.kernel import Kernel
from tunekit.kernels.library import KERNELS
from tunekit.testing import cases, check_kernel

pytestmark = pytest.mark.gpu

PATH = Path(__file__).resolve().parents[1] / "testing" / "planted.py"

FAULTS = {
    "off_by_one": "1 of 61 elements are not written",
    "odd_sizes": "13 of 61 elements are not written",
    "past_the_end": "writes past the end of its output",
    "swallows_nan": "nan in x at",
    "clamps": "inf in x at",
    "one_configuration": "BLOCK=128",
    "not_the_same_twice": "gives other bits for the same inputs",
    "changes_its_input": "changes input 0",
    "offset_twice": "starting at no multiple of 16 bytes: differs",
    "breaks_down": "ZeroDivisionError",
    "second_result": "output 1: 13 of 13 elements",
    "second_unwritten": "output 1: 1 of 13 elements are not written",
    "ignores_strides": "x with rows 64 elements apart: differs",
    "ignores_transposition": "x transposed in memory: differs",
    "fills_gaps": "writes between the elements of x",
    "forgets_to_zero": "elements are not written",
    "ignores_its_scalar": "scale=0.75: differs",
}


@pytest.fixture(scope="module")
def planted() -> ModuleType:
    spec = importlib.util.spec_from_file_location("planted", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["planted"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", FAULTS)
def test_a_mistake_is_found(name: str, planted: ModuleType) -> None:
    kernel = getattr(planted, name)
    with pytest.raises(AssertionError, match=f"{name} is wrong on cuda:") as found:
        check_kernel(kernel, dtypes=[kernel.dtypes[0]])
    assert FAULTS[name] in str(found.value)


@pytest.mark.parametrize("name", ["clean", "centred", "adds_in_place", "counts", "gated"])
def test_nothing_is_found_where_nothing_is_wrong(name: str, planted: ModuleType) -> None:
    kernel = getattr(planted, name)
    assert isinstance(kernel, Kernel)
    for case in cases(kernel):
        case.check()
    assert "on cuda:0" in str(check_kernel(kernel, device="cuda:0", dtypes=[kernel.dtypes[0]]))


@pytest.mark.parametrize("name", list(KERNELS))
def test_the_library_passes(name: str) -> None:
    report = check_kernel(KERNELS[name])
    assert report.checks["calls"] >= 6
