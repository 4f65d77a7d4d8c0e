from __future__ import annotations

import pytest

from tunekit.rules.widths import BULK, read_widths

KEY = (("mine.py", 33, 47), ("mine.py", 70, 64))
LOC = "\t.loc\t1 33 47                         // mine.py:33:47 @[ mine.py:70:64 ]\n"


@pytest.mark.parametrize(
    ("line", "kind", "width"),
    [
        ("@%p2 ld.global.v2.b32 { %r14, %r15 }, [ %rd8 + 0 ];", "load", 8),
        ("ld.global.L1::evict_last.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd8 ];", "load", 16),
        ("ld.global.nc.b16 { %rs1 }, [ %rd8 ];", "load", 2),
        ("@%p2 st.global.v4.b32 [ %rd10 + 0 ], { %r14, %r15, %r1, %r2 };", "store", 16),
        ("st.global.b64 [ %rd10 + 0 ], { %rd1 };", "store", 8),
        ("atom.global.gpu.acq_rel.add.f32 %r1, [ %rd1 + 0 ], %r2;", "atomic", 4),
        ("@%p1 red.global.add.f32 [ %rd1 + 0 ], %r2;", "atomic", 4),
        ("cp.async.cg.shared.global [ %r37 + 0 ], [ %rd10 + 0 ], 0x10, %r38;", "load", 16),
        ("cp.async.ca.shared.global [ %r37 + 0 ], [ %rd10 + 0 ], 0x4, %r38;", "load", 4),
        (
            "@%p4 cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%r9];",
            "load",
            BULK,
        ),
        (
            "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd8, {%r10, %r11}], [%r9];",
            "store",
            BULK,
        ),
    ],
)
def test_bytes_a_thread(line: str, kind: str, width: int) -> None:
    assert read_widths(f"{LOC}\t{line}\n") == {(kind, KEY): {width}}


def test_code_of_no_line_belongs_to_the_last_place() -> None:
    text = LOC + "\t.loc\t1 0 47  // mine.py:0:47\n\tld.global.b32 { %r1 }, [ %rd8 ];\n"
    assert read_widths(text) == {("load", KEY): {4}}


def test_several_instructions_of_a_place() -> None:
    text = LOC + "\tld.global.v4.b32 {}, [ %rd8 ];\n\tld.global.b32 { %r1 }, [ %rd8 ];\n"
    assert read_widths(text) == {("load", KEY): {16, 4}}


def test_other_memory_is_not_read() -> None:
    text = LOC + "\tld.param.b64 %rd1, [p];\n\tld.shared.b32 %r1, [%r2];\n\tbar.sync 0;\n"
    assert read_widths(text) == {}
