"""Rules `spills`, `shared memory` and `occupancy`: what a program needs of an SM."""

from __future__ import annotations

from tunekit.evaluate.limits import resident_blocks, unfit_reason
from tunekit.rules.finding import Finding, Verdict, counted
from tunekit.rules.subject import Subject

_FEW = 0.25
"""Share of the warps an SM can hold below which there are few to wait for memory in turn."""


def check_spills(subject: Subject) -> Finding:
    """Values stay in registers."""
    binary = subject.binary
    fact = (
        f"{counted(binary.registers, 'register')} and {binary.spill_bytes} bytes of stack a thread"
    )
    if binary.spill_bytes:
        says = (
            f"Each thread keeps {binary.spill_bytes} bytes in local memory, which is DRAM: smaller "
            "blocks, or more warps, need fewer registers."
        )
        return Finding("spills", Verdict.BROKEN, says, fact)
    return Finding("spills", Verdict.OK, "Nothing is spilled to local memory.", fact)


def check_shared_memory(subject: Subject) -> Finding:
    """Shared memory fits, and is not what keeps programs from an SM."""
    binary, device = subject.binary, subject.device
    fact = f"{binary.shared_bytes} of {device.shared_bytes_per_block} bytes a block"
    if binary.shared_bytes > device.shared_bytes_per_block:
        says = f"A block needs more shared memory than {device.names[0]} has."
        return Finding("shared memory", Verdict.BROKEN, says, fact)
    if not binary.shared_bytes:
        says = "No shared memory is used."
    elif subject.ops("tt.dot", "tt.dot_scaled"):
        says = "Tiles for the matrix unit are kept in shared memory."
    elif "cp.async" in subject.ptx:
        says = "Blocks that a loop copies ahead are kept in shared memory."
    elif subject.ops("tt.reduce", "tt.scan"):
        says = "Threads exchange parts of a reduction in shared memory."
    else:
        says = "Values change hands in shared memory, from one layout to another."
    return Finding("shared memory", Verdict.OK, says, fact)


def check_occupancy(subject: Subject) -> Finding:
    """Blocks fit on an SM, and enough of them."""
    device, warps = subject.device, subject.num_warps
    if reason := unfit_reason(subject.binary, subject.config, device):
        return Finding("occupancy", Verdict.BROKEN, f"It cannot be launched: {reason}.", reason)
    blocks = resident_blocks(subject.binary, warps, device)
    share = blocks * warps / device.max_warps_per_sm
    fact = (
        f"{counted(blocks, 'block')} of {counted(warps, 'warp')} an SM, {share:.0%} of "
        f"{device.max_warps_per_sm} warps; {counted(subject.programs, 'program')} on "
        f"{device.sm_count} SMs"
    )
    if share < _FEW:
        says = (
            f"Whether {counted(blocks * warps, 'warp')} an SM are enough for others to compute "
            "while some wait."
        )
        return Finding("occupancy", Verdict.UNDECIDED, says, fact)
    return Finding("occupancy", Verdict.OK, "An SM holds warps enough to wait for memory.", fact)
