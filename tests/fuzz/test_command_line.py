"""Whatever is typed, and whatever the files hold: exit status 0, 1 or 2, and one clear line.

The commands and their options are click's own, so that a new one is fuzzed, too. What would tune
for real looks its times up in a table.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tunekit import arguments, cli, gpu, hosts
from tunekit.core.config import Config
from tunekit.doctor import databases, diagnosis
from tunekit.evaluate.host import Host
from tunekit.runtime import explanation, known, lookup
from tunekit.search import confirm as confirming
from tunekit.search import tune as tuning
from tunekit.store.database import Store

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = sorted(cli.cli.commands)
LONGEST_LINE = 2_100

SLOW = {"tune": 150, "doctor": 25, "evaluate": 150, "merge": 300, "import": 300, "show": 300}
"""Commands of which `make soak` tries fewer than of others."""


def how_many(soak: bool, name: str = "") -> settings:
    """A fixed few; or many, others every time."""
    return settings(
        derandomize=not soak,
        max_examples=SLOW.get(name, 600) if soak else 8,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if soak else tuple(Phase),
        database=None,
    )


FEW_OR_MANY = pytest.mark.parametrize(
    "soak", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["few", "many"]
)


def time_us(config: Config) -> float:
    return 5.0 + config.get("num_warps", 4) / 1e3


@pytest.fixture(scope="module")
def rows() -> list[bytes]:
    """Lines of evaluations and a decision."""
    from tunekit import records

    with Store.open(ROOT / "studies.db", readonly=True, immutable=True) as store:
        found = [*store.evaluations()[:3], *store.decisions()[:1]]
    return [records.to_line(each).encode() for each in found]


@pytest.fixture
def files(tmp_path: Path, rows: list[bytes]) -> list[str]:
    """Names a person may give: right, wrong, empty, a folder, odd."""
    folder = tmp_path / "files"
    folder.mkdir()
    calls = b'{"record": "calls", "format": 1}\n'
    contents = {
        "rows.jsonl": b"\n".join(rows[:3]),
        "rows.jsonl.gz": gzip.compress(rows[0]),
        "decision.jsonl": rows[-1],
        "calls.jsonl": calls,
        "empty": b"",
        "binary": bytes(range(256)) * 20,
        "shapes.txt": "64,64\n# ünïcode\n8,8\n".encode(),
        "bad-shapes.txt": b"64,,64\n",
        "latin.txt": b"\xff\xfe64",
        "kernel.py": b"x = 1\n",
        "configs.py": b"configs = [triton.Config({'BLOCK_SIZE': b}) for b in [256, odd]]\n",
        "table.json": b'{"16": {"BLOCK_SIZE": 512, "VEC": 4, "num_stages": 1}, "any": {}}',
        "raises.py": b"raise SystemExit('no\\nmore')\n",
        "syntax.py": b"def",
        "space.toml": b"[axes]\n",
        "half.csv.gz": gzip.compress(b"# x\nkernel\n")[:-5],
        "odd\x1b[31m name\n.db": b"not a database, but long enough to look like one" * 30,
        "\udcff.db": b"",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "loop").symlink_to(folder / "loop")
    with Store.open(folder / "good.db") as store:
        store.import_lines(folder / "rows.jsonl")
    (folder / "damaged.db").write_bytes((folder / "good.db").read_bytes()[:5_000])
    names = [*contents, "loop", "good.db", "damaged.db", "absent", "absent/below", "a" * 300]
    return [str(folder), *(str(folder / name) for name in names), "", ".", "/dev/null", "~nobody/x"]


@pytest.fixture
def cut_short(
    estimate_host: Callable[..., Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU, nothing shipped, no worker."""
    absent = tmp_path / "nothing-shipped.db"
    for module in (arguments, known, explanation):
        monkeypatch.setattr(module, "shipped_database", lambda: absent)
    for module in (cli.tune, cli.replay):
        monkeypatch.setattr(module, "shipped_landscapes", lambda: tmp_path / "no-landscapes")
    monkeypatch.setattr(gpu, "gpu_count", lambda: 0)
    monkeypatch.setattr(Host, "estimating", lambda device: estimate_host(time_us))
    monkeypatch.setattr(hosts, "compile_device", _refused)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("TUNEKIT_DB", str(tmp_path / "mine.db"))
    monkeypatch.setenv("TUNEKIT_LOG", "/dev/null")
    for module in (tuning, confirming):
        monkeypatch.setattr(module, "project_study", lambda session: None)
    for check in ("check_torch", "check_compiler", "check_worker"):  # processes of their own
        monkeypatch.setattr(diagnosis, check, lambda *about: iter(()))
    monkeypatch.setattr(databases, "_hashes", lambda rows: {})


def _refused(target: str | None) -> Any:
    from tunekit.core.device import device_named

    device_named(target or "")
    raise click.UsageError("nothing is compiled here")


words = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(codec=None), max_size=6),  # lone surrogates, as of a name in Latin-1
    st.sampled_from(
        ["", "-", "--", "\0", "a\0b", "\x1b[2J", "\n", "x" * 3_000, "nan", "inf", "1e999", "-1",
         "9" * 30, "9" * 5_000, "٣", "1_0", "../../etc/passwd", "%s%n", "{}", "--help", "=", "é"]
    ),
)  # fmt: skip
numbers = st.integers(-(2**70), 2**70).map(str) | st.floats().map(str) | words
shapes = (
    st.lists(st.integers(-1, 300), max_size=5).map(lambda dims: ",".join(map(str, dims)))
    | st.lists(st.integers(1, 2**70), min_size=1, max_size=40).map(
        lambda dims: ",".join(map(str, dims))
    )
    | st.sampled_from(["64,64", "4096", "64x64", "(8, 8)"])
    | words
)
kernels = st.sampled_from(
    ["mish_mish", "mish_mish+bias", "mish_mish+bias/channels_last", "gelu", "identity", "nope:X",
     "tunekit:X", ":", "a:", ":b", "a.b:c", "..:x", "mish_mish:", "+bias", "/channels_last",
     "x+bias+bias", "tunekit.kernels.library:KERNELS", "absent.py:K"]
) | words  # fmt: skip
models = (
    st.sampled_from(["h100", "rtx4090", "RTX 4090", "cuda:0", "cuda", "cuda:" + "9" * 5_000])
    | words
)
params = st.sampled_from(["scale=2.0", "scale=nan", "scale", "=1", "scale=1e400", "x=1"]) | words
BY_NAME = {
    "kernel": kernels,
    "shape": shapes,
    "shapes": shapes,
    "dtypes": st.sampled_from(["float32", "bf16", "torch.half", "int8"]) | words,
    "dtype": st.sampled_from(["float32", "bf16", "torch.half", "int8"]) | words,
    "device": models,
    "target": models,
    "params": params,
    "strategies": st.sampled_from(["random", "transfer", "tpe"]) | words,
}
NEVER_MANY = {"seeds", "trials"}


@st.composite
def command_lines(draw: st.DrawFn, name: str, files: list[str]) -> list[str]:
    """A command with some of its options, in an order that click understands or not."""
    command = cli.cli.commands[name]
    argv = [name]
    for parameter in command.params:
        repeats = draw(st.integers(0, 2 if parameter.multiple or parameter.nargs == -1 else 1))
        required = parameter.required and draw(st.integers(0, 9))
        for _ in range(max(repeats, 1 if required else 0)):
            value = draw(_values(parameter, name, files))
            if isinstance(parameter, click.Argument):
                argv.append(value)
            elif getattr(parameter, "is_flag", False):
                argv.append(parameter.opts[-1])
            elif draw(st.booleans()):
                argv.append(f"{parameter.opts[-1]}={value}")
            else:
                argv += [parameter.opts[-1], value]
    if not draw(st.integers(0, 9)):
        argv.insert(draw(st.integers(0, len(argv))), draw(words))
    return argv


def _values(parameter: click.Parameter, command: str, files: list[str]) -> st.SearchStrategy[str]:
    name = parameter.name or ""
    existing = st.sampled_from(files)
    if name == "kernel" and command != "precompile":
        return kernels | existing.map(lambda path: f"{path}:K")
    if name in BY_NAME:
        return BY_NAME[name]
    if isinstance(parameter.type, click.Path) or name == "job":
        return existing | words.filter(lambda text: "/" not in text)
    if isinstance(parameter.type, click.Choice):
        return st.sampled_from([str(choice) for choice in parameter.type.choices]) | words
    if name in NEVER_MANY:
        return st.sampled_from(["1", "2", "0", "-1", "x", "9" * 5_000 + "x"])
    return numbers


def ended(argv: list[str]) -> tuple[int, str, str]:
    """The exit status, and what was printed."""
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)
    )
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = cli.main(argv)
        except SystemExit as left:
            status = int(left.code or 0)
    return status, _printed(out), _printed(err)


def _printed(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8")


def check(argv: list[str]) -> None:
    status, out, err = ended(argv)
    assert status in (0, 1, 2), (status, err)
    assert "Traceback" not in err
    assert "\x1b" not in out + err
    lines = err.splitlines()
    if status and not (argv == [] or err.startswith("Usage:")):
        assert lines, "it failed and says nothing"
        for line in lines:
            assert line.startswith("tunekit: "), err
    for line in lines:
        assert len(line) <= LONGEST_LINE
    if status == 2:
        assert len(lines) == 1 or err.startswith("Usage:")
    if status == 0 and "--json" in argv and not {"-h", "--help"} & set(argv):
        json.loads(out, parse_constant=_no_json)


def _no_json(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.usefixtures("cut_short")
@FEW_OR_MANY
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_ends_in_success_or_one_line(
    name: str,
    soak: bool,
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tally: Callable[[str, str, int], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    count = 0

    @how_many(soak, name)
    @given(command_lines(name, files))
    def run(argv: list[str]) -> None:
        nonlocal count
        count += 1
        check(argv)

    run()
    tally("Fuzzing", f"command line, {name}: properties", count)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    lookup.forget()


@pytest.mark.usefixtures("cut_short")
@FEW_OR_MANY
def test_no_command_at_all(soak: bool, tally: Callable[[str, str, int], None]) -> None:
    count = 0

    @how_many(soak)
    @given(st.lists(words, max_size=3).filter(lambda argv: not set(argv) & set(COMMANDS)))
    def run(argv: list[str]) -> None:
        nonlocal count
        count += 1
        check(argv)

    run()
    tally("Fuzzing", "command line, no command: properties", count)
