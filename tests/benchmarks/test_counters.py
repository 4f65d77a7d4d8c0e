"""The page of counters, from what Nsight Compute wrote on an H100, and what the docs cite of it."""

from __future__ import annotations

from pathlib import Path

import counters as script
import pytest

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Evaluation, Provenance, Source, Status, VerifiedBy
from tunekit.gpu import PresentGpu
from tunekit.kernels.library import KERNELS
from tunekit.profile import counters
from tunekit.profile.find import Ncu
from tunekit.profile.parse import launches_in
from tunekit.profile.problem import Profile
from tunekit.profile.subjects import Role, Subject

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests" / "profile" / "data" / "two-launches.csv"
GPU = PresentGpu(0, "NVIDIA H100 80GB HBM3", "580.159.04", DEVICES["h100"])
NCU = Ncu(Path("/usr/local/cuda/bin/ncu"), "2025.3.1.0")


def profiles(*wanted: str, same_binary: bool = True) -> list[Profile]:
    """Of the winner and the default, with the counters wanted."""
    device, kernel = DEVICES["h100"], KERNELS["mish_add_hardtanh_scale"]
    launch = kernel.launch_for((128, 64, 256, 256), "float32", device)
    evaluation = Evaluation(
        problem=kernel.problem_of(launch, device),
        shape=(128, 64, 256, 256),
        config=Config(BLOCK_SIZE=1024, VEC=1),
        status=Status.OK,
        source=Source.MEASURED,
        provenance=Provenance("H100", 132, "580", "2.11", "3.6", "0.1", "p", "2026-11-21T05:00Z"),
        verified_by=VerifiedBy.DEVICE,
        time_us=1410.0,
    )
    launches = launches_in(RECORDED.read_text(), wanted)
    return [
        Profile(Subject(role, evaluation), each, same_binary)
        for role, each in zip((Role.WINNER, Role.DEFAULT), launches, strict=True)
    ]


def page(found: list[Profile]) -> list[str]:
    return script.page(GPU, NCU, [(script.ORIGINALS[0], found)]).splitlines()


def test_originals_and_ops_side_by_side() -> None:
    lines = page(profiles(*(each.name for each in counters.KNOWN)))
    assert lines[:2] == ["# Hardware counters", ""]
    assert "NVIDIA H100 80GB HBM3, driver 580.159.04" in lines[2]
    assert "Nsight Compute 2025.3.1.0" in lines[2]
    op = "`mish_add_hardtanh_scale`"
    assert lines[6:11] == [
        "| op | on | sm % | dram % | warps active % | L2 hit % | grid |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        f"| {op} | original, RTX 4090 | 13.52 | 43.5 | 89.57 | 78.59 | 524288 |",
        f"| {op} | winner, h100 | 30.02 | 90.41 | 95.08 | 50.72 | 524288 |",
        f"| {op} | default, h100 | 17.72 | 89.90 | 84.82 | 51.10 | 524288 |",
    ]
    assert "## mish_add_hardtanh_scale 128,64,256,256" in lines
    assert "| registers | 32 | 30 |" in lines
    assert not any("ot read" in line or "Another binary" in line for line in lines)


def test_what_was_not_read_is_no_number() -> None:
    lines = page(profiles(counters.SM.name, same_binary=False))
    assert (
        "| `mish_add_hardtanh_scale` | winner, h100 | 30.02 | not read | not read | not read | "
        "not read |"
    ) in lines
    (missing,) = (line for line in lines if line.startswith("Not read on this GPU: "))
    assert counters.DRAM.name in missing
    assert "Another binary ran than was measured when it was tuned." in lines


def test_a_tuned_row_is_found_and_not_tuned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "tunekit", None)
    for original in script.ORIGINALS:
        row = script.tuned_row(original, GPU, ROOT / "studies.db")
        assert (row.problem.kernel, row.problem.device) == (original.op, "h100")
        assert row.shape == original.shape


def table(page: Path) -> list[str]:
    """The lines of the first table whose first column is `op`."""
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    found = [next(line for line in lines if line.startswith("| op |"))]
    for line in lines:
        if not line.startswith("|"):
            break
        found.append(line)
    return found


def test_the_page_about_profiling_cites_what_was_printed() -> None:
    results = ROOT / "benchmarks" / "results" / "profile-h100.md"
    cited = table(ROOT / "docs" / "profile.md")
    assert cited == table(results)
    of_ops = [line for line in cited if "h100" in line]
    assert len({line.split("|")[1] for line in of_ops}) == 3
    for original in script.ORIGINALS:
        figures = " | ".join(original.profile)
        assert f"| `{original.op}` | original, RTX 4090 | {figures} |" in cited


def test_the_counters_are_explained() -> None:
    text = (ROOT / "docs" / "profile.md").read_text(encoding="utf-8")
    for each in counters.KNOWN:
        assert f"`{each.title}`" in text, each.title
        assert f"`{each.name}`" in text, each.name
