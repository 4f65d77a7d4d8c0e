from __future__ import annotations

import pytest

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.evaluate.binary import (
    BlockPath,
    Instruction,
    Mix,
    full_block_path,
    parse_ptx,
)
from tunekit.evaluate.compile import compile_launch
from tunekit.kernels.library import KERNELS

HEADER = """
//
.version 8.7
.target sm_89
.address_size 64

.visible .entry kernel(
    .param .u64 .ptr .global .align 1 kernel_param_0,
    .param .u32 kernel_param_1
)
.reqntid 128
{
    .reg .pred  %p<3>;
    .loc 1 70 4                             // file.py:70:4
"""

# A block without a mask if it is full, else one with: the masked one comes first.
FLAT = f"""{HEADER}
    ld.param.b32    %r2, [kernel_param_1];
    mov.u32         %r3, %tid.x;
    setp.gt.s32     %p1, %r3, %r2;
    @%p1 bra        $L__BB0_2;
    bra.uni         $L__BB0_1;
$L__BB0_2:
    setp.lt.s32     %p2, %r1, %r2;
    // begin inline asm
    @%p2 ld.global.b32 {{ %r13 }}, [ %rd6 + 0 ];
    @!%p2 ld.global.b32 {{ %r14 }}, [ %rd7 + 0 ];
    // end inline asm
    ex2.approx.ftz.f32  %r15, %r14;
    @%p2 st.global.b32 [ %rd10 + 0 ], {{ %r13 }};
    @%p2 st.global.b32 [ %rd11 + 0 ], {{ %r14 }};
    bra.uni         $L__BB0_3;
$L__BB0_1:
    ld.global.v4.b32 {{ %r9, %r10, %r11, %r12 }}, [ %rd3 + 0 ];
    ex2.approx.ftz.f32  %r16, %r9;
    div.full.f32    %r17, %r16, %r9;
    st.global.v4.b32 [ %rd4 + 0 ], {{ %r9, %r10, %r11, %r12 }};
$L__tmp3:
$L__BB0_3:
    ret;
}}
"""

# Around the loop if there is nothing to repeat; after it, the masked rest.
LOOP = f"""{HEADER}
    ld.param.b64    %rd1, [kernel_param_0];
    cp.async.cg.shared.global [ %r5 + 0 ], [ %rd3 + 0 ], 0x10, %r10;
    cp.async.commit_group;
    @%p1 bra        $L__BB0_3;
    shl.b32         %r7, %r4, 9;
$L__BB0_2:
    cp.async.wait_group     0;
    bar.sync        0;
    ld.shared.v4.b32        {{%r19, %r20, %r21, %r22}}, [%r5];
    rsqrt.approx.ftz.f32    %r18, %r19;
    st.global.v4.b32 [ %rd4 + 0 ], {{ %r19, %r20, %r21, %r22 }};
    cp.async.cg.shared.global [ %r5 + 0 ], [ %rd5 + 0 ], 0x10, %r23;
    cp.async.commit_group;
    setp.lt.s32     %p4, %r37, %r3;
    @%p4 bra        $L__BB0_2;
$L__BB0_3:
    rem.s32         %r26, %r3, %r4;
    @%p5 bra        $L__BB0_5;
    @%p6 ld.global.b32 {{ %r27 }}, [ %rd6 + 0 ];
    @%p6 st.global.b32 [ %rd10 + 0 ], {{ %r27 }};
$L__BB0_5:
    ret;
}}
"""


def _at(instructions: list[Instruction], opcode: str) -> list[int]:
    return [i for i, each in enumerate(instructions) if each.opcode.startswith(opcode)]


class TestParsePtx:
    def test_instructions_and_nothing_else(self) -> None:
        opcodes = [each.opcode for each in parse_ptx(FLAT)]
        assert opcodes[:5] == ["ld.param.b32", "mov.u32", "setp.gt.s32", "bra", "bra.uni"]
        assert opcodes[-1] == "ret"
        assert len(opcodes) == 17
        assert not any("param" in opcode or "loc" in opcode for opcode in opcodes[1:])

    def test_guards(self) -> None:
        guarded = [each.opcode for each in parse_ptx(FLAT) if each.guarded]
        assert guarded == ["bra", *["ld.global.b32"] * 2, *["st.global.b32"] * 2]

    def test_branches_lead_to_what_follows_their_label(self) -> None:
        instructions = parse_ptx(FLAT)
        targets = [each.target for each in instructions if each.base == "bra"]
        (wide,) = _at(instructions, "ld.global.v4")
        (second_setp,) = _at(instructions, "setp.lt")
        assert targets == [second_setp, wide, len(instructions) - 1]
        assert all(each.target is None for each in instructions if each.base != "bra")

    @pytest.mark.parametrize(
        ("opcode", "accesses"),
        [
            ("ld.global.v4.b32", "load"),
            ("ld.global.L1::evict_last.b32", "load"),
            ("cp.async.cg.shared.global", "load"),
            ("cp.async.ca.shared.global", "load"),
            ("cp.async.commit_group", ""),
            ("cp.async.wait_group", ""),
            ("st.global.b16", "store"),
            ("ld.shared.b32", ""),
            ("st.shared.b32", ""),
            ("ld.param.b64", ""),
        ],
    )
    def test_global_accesses(self, opcode: str, accesses: str) -> None:
        (instruction,) = parse_ptx(f".entry k()\n{{\n  {opcode} %r1, [%rd1];\n}}")
        assert instruction.opcode == opcode
        assert instruction.accesses == accesses

    def test_what_is_before_the_kernel_is_not_code(self) -> None:
        assert parse_ptx(".version 8.7\n.target sm_89\n") == []


class TestFullBlockPath:
    def test_the_way_without_a_mask_is_taken(self) -> None:
        # setp, two branches, load, ex2, a division of eight, store, ret; no mov, no ld.param
        assert full_block_path(parse_ptx(FLAT)) == BlockPath(
            once=Mix(issued=15, special=2, loads=1, stores=1), each=Mix()
        )

    def test_the_order_of_the_two_bodies_does_not_matter(self) -> None:
        """The full block first, falling through to it."""
        swapped = FLAT.replace("@%p1 bra        $L__BB0_2", "@%p1 bra        $L__BB0_1").replace(
            "bra.uni         $L__BB0_1;\n$L__BB0_2", "bra.uni         $L__BB0_2;\n$L__BB0_2"
        )
        assert full_block_path(parse_ptx(swapped)).once.loads == 1

    def test_a_loop_is_counted_apart_and_not_jumped_over(self) -> None:
        path = full_block_path(parse_ptx(LOOP))
        assert path.each == Mix(issued=9, special=1, loads=1, stores=1)
        # The first copy, its commit, the branch, shl; a remainder of twenty, branch, ret.
        assert path.once == Mix(issued=26, special=0, loads=1, stores=0)

    def test_a_kernel_that_stores_nothing_has_no_path(self) -> None:
        nothing = f"{HEADER}\n    ret;\n}}"
        assert full_block_path(parse_ptx(nothing)) == BlockPath(Mix(), Mix())

    def test_a_guarded_return_can_be_passed(self) -> None:
        guarded = f"{HEADER}\n @%p1 ret;\n st.global.b32 [%rd1], %r1;\n ret;\n}}"
        assert full_block_path(parse_ptx(guarded)).once == Mix(issued=3, stores=1)

    @pytest.mark.parametrize(
        ("opcode", "issued", "special"),
        [
            ("mov.b32", 0, 0),
            ("fma.rn.f32", 1, 0),
            ("ex2.approx.ftz.f32", 1, 1),
            ("rsqrt.approx.f32", 1, 1),
            ("div.full.f32", 8, 1),
            ("div.rn.f32", 20, 0),
            ("rem.s32", 20, 0),
        ],
    )
    def test_costs(self, opcode: str, issued: int, special: int) -> None:
        code = f"{HEADER}\n {opcode} %r1, %r2;\n st.global.b32 [%rd1], %r1;\n ret;\n}}"
        once = full_block_path(parse_ptx(code)).once
        assert (once.issued, once.special) == (issued + 2, special)

    @pytest.mark.parametrize("stages", [1, 2])
    @pytest.mark.parametrize(("dtype", "vec"), [("float32", 4), ("float16", 8)])
    def test_a_compiled_kernel(self, dtype: str, vec: int, stages: int, compiling: Device) -> None:
        """A warp of a full block loads and stores what its 32 threads own, 16 bytes each."""
        config = Config(BLOCK_SIZE=2048, VEC=vec, num_warps=4, num_stages=stages)
        launch = KERNELS["identity"].launch_for((2**26 + 1,), dtype, compiling)
        path = full_block_path(parse_ptx(compile_launch(launch, config, {}).kernel.asm["ptx"]))
        body = path.once if stages == 1 else path.each
        accesses = 2048 // (4 * 32 * vec)
        assert (body.loads, body.stores) == (accesses, accesses)
        assert body.issued > body.loads + body.stores
        assert (path.each == Mix()) is (stages == 1)

    def test_a_formula_costs_special_functions(self, compiling: Device) -> None:
        config = Config(BLOCK_SIZE=1024, VEC=1, num_warps=4, num_stages=1)
        launch = KERNELS["add_min_gelu_mul"].launch_for((4096,), "float32", compiling)
        compiled = compile_launch(launch, config, KERNELS["add_min_gelu_mul"].scalars)
        once = full_block_path(parse_ptx(compiled.kernel.asm["ptx"])).once
        assert once.special == 8  # one exponential for each of a thread's 8 elements
        assert once.issued > 8 * 10
