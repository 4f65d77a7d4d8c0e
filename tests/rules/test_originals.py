"""What is known to be wrong in the kernels the library began with, where a compiler can see it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunekit.rules.check import UNSEEN, Checked
from tunekit.rules.finding import Finding, Verdict

TILES, GELU, MISH = (128, 64, 256, 256), (128, 128, 130, 130), (64, 128, 254, 254)

Check = Callable[..., Checked]


def _broken(checked: Checked) -> dict[str, Finding]:
    return {each.rule: each for each in checked.of(Verdict.BROKEN)}


@pytest.fixture(scope="module")
def original(checked: Check) -> Check:
    def check_it(name: str, shape: tuple[int, ...], target: str = "rtx4090") -> Checked:
        return checked(name, shape, target=target, file="originals.py")

    return check_it


@pytest.mark.parametrize("target", ["rtx4090", "h100"])
def test_the_tiles_touch_256_bytes_at_a_time_on_a_grid_of_three_axes(
    original: Check, target: str
) -> None:
    found = original("mish_add_hardtanh_scale", TILES, target)
    broken = _broken(found)
    assert broken.keys() == {"runs", "grid"}
    assert "runs of 256 bytes far apart" in broken["runs"].says
    assert "Element-wise work on 3 axes" in broken["grid"].says
    assert "grid 128 × 4 × 1024" in broken["grid"].fact
    # 537 million elements are not followed one by one, and blocks are no runs of memory.
    assert [each.rule for each in found.of(Verdict.UNDECIDED)] == ["coverage"]


def test_at_a_small_shape_the_tiles_are_followed_in_full(original: Check) -> None:
    found = original("mish_add_hardtanh_scale", (4, 64, 64, 64))
    coverage = next(each for each in found.findings if each.rule == "coverage")
    assert coverage.verdict is Verdict.OK


def test_the_other_variant_leaves_elements_unwritten(original: Check) -> None:
    broken = _broken(original("mish_add_hardtanh_scale_rows", (128, 4, 8, 64)))
    assert "At least 253952 of the 262144 elements" in broken["coverage"].says


def test_where_it_has_one_row_of_64_the_other_variant_writes_all(original: Check) -> None:
    assert "coverage" not in _broken(original("mish_add_hardtanh_scale_rows", (128, 1, 1, 64)))


def test_both_sides_of_each_softplus_are_computed(original: Check) -> None:
    found = original("mish_mish", MISH, "h100")
    broken = _broken(found)
    assert broken.keys() == {"both sides", "arithmetic"}
    assert "each of 2 selects" in broken["both sides"].says
    assert "2 exp and 2 log too many" in broken["both sides"].says
    assert broken["arithmetic"].fact == (
        "152 instructions an element, among them 4 exp, 4 log and 2 sigmoid"
    )
    assert not found.of(Verdict.UNDECIDED)


def test_memory_binds_that_kernel_on_an_rtx_4090(original: Check) -> None:
    """Where it ran at 93 % of the bandwidth."""
    found = original("mish_mish", MISH)
    assert _broken(found).keys() == {"both sides"}
    in_place = next(each for each in found.findings if each.rule == "store-then-load")
    assert in_place.verdict is Verdict.OK
    assert "loaded before it is stored" in in_place.says


def test_one_x_too_many_is_not_to_be_seen(original: Check) -> None:
    """The GELU kernel keeps every rule, and computes something else: that is said to be unseen."""
    found = original("add_min_gelu_mul", GELU)
    assert not found.of(Verdict.BROKEN)
    assert not found.of(Verdict.UNDECIDED)
    assert any("the right thing" in each for each in UNSEEN)
    assert any("bias" in each for each in UNSEEN)
