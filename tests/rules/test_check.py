"""Small kernels, and what is found of each: every rule is broken by one of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunekit.core.config import Config
from tunekit.errors import KernelError
from tunekit.rules.check import RULES, UNSEEN, Checked, to_json
from tunekit.rules.finding import Finding, Verdict

FLAT = (20_000,)

# A kernel, the shape it is checked at, the rules it breaks, and those that stay undecided.
BREAKING: dict[str, tuple[tuple[int, ...], set[str], set[str]]] = {
    "LOADS_TWICE": (FLAT, {"loads"}, {"bytes"}),
    "TWO_PASSES": ((64, 8192), {"loads"}, {"bytes", "arithmetic"}),
    "READS_ONE_INPUT": (FLAT, {"loads"}, {"bytes"}),
    "STORES_TWICE": (FLAT, {"stores"}, {"bytes"}),
    "WRITES_ITS_INPUT": (FLAT, {"stores"}, {"bytes"}),
    "WRITES_ONE_OUTPUT": (FLAT, {"stores"}, {"bytes"}),
    "STORED_BY_PAIRS": (FLAT, {"stores"}, {"bytes"}),
    "THROUGH_A_BUFFER": (FLAT, {"store-then-load"}, {"bytes"}),
    "SHIFTS_IN_PLACE": (FLAT, {"store-then-load"}, set()),
    "READS_ITS_OUTPUT": (FLAT, {"store-then-load"}, {"bytes"}),
    "UNMASKED": (FLAT, {"masks"}, set()),
    "MASKED_TOO_LATE": (FLAT, {"masks"}, set()),
    "FORGETS_THE_LAST": (FLAT, {"coverage"}, set()),
    "SUMS": (FLAT, {"atomics"}, set()),
    "NARROW": (FLAT, {"width"}, set()),
    "FAR_APART": ((2**20,), {"runs"}, set()),
    "EVERY_FOURTH": (FLAT, {"bytes", "width"}, set()),
    "ON_TWO_AXES": ((64, 4096), {"grid"}, set()),
    "UNREAD_AXIS": (FLAT, {"grid", "stores"}, {"bytes"}),
    "BOTH_SIDES": (FLAT, {"both sides"}, set()),
    "COMPUTES_LONG": (FLAT, {"arithmetic"}, set()),
    "SPILLS": (FLAT, {"spills"}, {"occupancy"}),
}
UNDECIDED: dict[str, tuple[tuple[int, ...], str, set[str]]] = {
    "GATHERS": (FLAT, "float32", {"loads", "store-then-load", "masks", "addresses", "bytes"}),
    "LOOPS_BY_DATA": (FLAT, "float32", {"arithmetic", "bytes"}),
    "BY_ASSEMBLY": (FLAT, "float32", {"arithmetic"}),
    "MATMUL": ((512, 512, 512), "float16", {"runs", "bytes", "arithmetic"}),
}
CLEAN = {
    "ADD": FLAT,
    "SOFTMAX": (64, 1000),
    "IN_PLACE": FLAT,
    "EARLY_RETURN": (20_480,),
    "UNMASKED": (20_480,),
    "BY_DESCRIPTOR": (256, 256),
    "BY_GIVEN_DESCRIPTOR": (256, 256),
}
OPS = ("mish_mish", "add_min_gelu_mul", "mish_add_hardtanh_scale", "identity")

Check = Callable[..., Checked]


def rules(checked: Checked, verdict: Verdict) -> set[str]:
    return {each.rule for each in checked.of(verdict)}


def finding(checked: Checked, rule: str) -> Finding:
    return next(each for each in checked.findings if each.rule == rule)


def test_every_rule_is_broken_by_some_kernel_here() -> None:
    broken = {rule for _, rules, _ in BREAKING.values() for rule in rules}
    # Those have a test of their own below.
    assert broken | {"addresses", "blocks", "shared memory", "occupancy"} == RULES.keys()


@pytest.mark.parametrize("name", BREAKING)
def test_what_is_broken_is_found_and_nothing_else(checked: Check, name: str) -> None:
    shape, broken, undecided = BREAKING[name]
    found = checked(name, shape)
    assert rules(found, Verdict.BROKEN) == broken, found.findings
    assert rules(found, Verdict.UNDECIDED) == undecided, found.findings
    for each in found.findings:
        assert each.says.endswith("."), each
        assert "\n" not in each.says + each.fact, each


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_cannot_be_decided_is_said(checked: Check, name: str) -> None:
    shape, dtype, undecided = UNDECIDED[name]
    found = checked(name, shape, dtype)
    assert rules(found, Verdict.UNDECIDED) == undecided, found.findings
    assert not found.of(Verdict.BROKEN)


@pytest.mark.parametrize("name", CLEAN)
def test_what_is_as_it_should_be(checked: Check, name: str) -> None:
    found = checked(name, CLEAN[name], target="h100")
    assert [each for each in found.findings if each.verdict is not Verdict.OK] == []


@pytest.mark.parametrize(
    ("name", "broken"),
    [("BY_DESCRIPTOR", {"grid"}), ("BY_GIVEN_DESCRIPTOR", {"grid", "width"})],
)
def test_before_hopper_descriptors_are_pointers_and_masks(
    checked: Check, name: str, broken: set[str]
) -> None:
    """And what is left is element-wise work on two axes."""
    found = checked(name, CLEAN[name])
    assert rules(found, Verdict.BROKEN) == broken
    assert not found.of(Verdict.UNDECIDED), found.of(Verdict.UNDECIDED)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "target", "config"),
    [
        *((op, (64, 128, 254, 254), "float32", "rtx4090", {}) for op in OPS),
        ("mish_mish", (64, 128, 254, 254), "float16", "h100", {"VEC": 8}),
        ("add_min_gelu_mul", (8, 64, 25, 27), "bfloat16", "h100", {"VEC": 8, "num_stages": 3}),
    ],
)
def test_the_library_keeps_the_rules(
    checked: Check,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    target: str,
    config: dict[str, int],
) -> None:
    flat = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
    found = checked(name, shape, dtype, target=target, config=Config(flat, **config), file="")
    assert [each for each in found.findings if each.verdict is not Verdict.OK] == []


def test_channelwise_kernels_keep_the_rules(checked: Check) -> None:
    """A transposing one is followed in full; parameters of channels are loaded by all programs."""
    found = checked("mish_mish+bias/to_channels_last", (2, 64, 25, 27), target="h100", file="")
    assert [each for each in found.findings if each.verdict is not Verdict.OK] == []


def test_an_offset_beyond_32_bits_is_found(checked: Check) -> None:
    found = checked("UNMASKED", (2**31 + 2**20,), "float16")
    assert {"addresses", "masks"} <= rules(found, Verdict.BROKEN)
    assert "overflows 32 bits" in finding(found, "addresses").says


def test_a_block_that_is_no_power_of_two(checked: Check) -> None:
    found = checked("BLOCK_OF_96", FLAT, config=Config(BLOCK_SIZE=96, num_warps=1))
    assert "blocks" in rules(found, Verdict.BROKEN)
    assert "BLOCK_SIZE=96" in finding(found, "blocks").says
    assert "coverage" not in rules(found, Verdict.BROKEN)
    assert "stores" not in rules(found, Verdict.BROKEN)


def test_tiles_too_large_for_the_gpu(checked: Check) -> None:
    found = checked("LARGE_TILES", (512, 512, 512), "float16")
    assert rules(found, Verdict.BROKEN) == {"shared memory", "occupancy"}
    assert finding(found, "shared memory").fact == "147456 of 101376 bytes a block"


def test_findings_say_what_was_read_and_where(checked: Check) -> None:
    found = finding(checked("LOADS_TWICE", FLAT), "loads")
    assert found.says == (
        "One program loads the same elements of x0 (input 0) 2 times: load them once, and keep "
        "them in registers where a block holds them."
    )
    assert found.fact == "2 loads on a way through the code; 1 input"
    assert len(found.places) == 2
    assert all(each.startswith("tt.load at kernels.py:") for each in found.places)


def test_an_access_outside_is_told_with_program_and_element(checked: Check) -> None:
    found = finding(checked("UNMASKED", FLAT), "masks")
    assert "program 19 touches element 20000, and the last is 19999" in found.says


def test_what_is_not_followed_in_full_says_so(checked: Check) -> None:
    found = checked("ADD", (2**24,))
    assert found.followed.endswith("of 16384 programs")
    assert finding(found, "stores").says.endswith("in the programs followed.")
    assert finding(found, "coverage").says == "Every element of the result is stored."
    assert finding(found, "masks").verdict is Verdict.OK


def test_as_json(checked: Check) -> None:
    data = to_json(checked("STORES_TWICE", FLAT))
    assert (data["kernel"], data["device"], data["broken"]) == ("stores_twice", "rtx4090", 1)
    assert data["config"] == {"BLOCK_SIZE": 1024, "num_warps": 4}
    assert [each["rule"] for each in data["findings"]] == list(RULES)
    assert {each["verdict"] for each in data["findings"]} == {"ok", "broken", "undecided"}
    assert data["cannot_see"] == list(UNSEEN)


def test_what_does_not_compile_is_one_line(checked: Check) -> None:
    with pytest.raises(KernelError, match=r"^add with .* does not compile for rtx4090: ") as raised:
        checked("ADD", FLAT, config=Config(BLOCK_SIZE=1000, num_warps=4))
    assert "\n" not in str(raised.value)
