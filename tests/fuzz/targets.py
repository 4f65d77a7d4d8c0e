"""What is fuzzed: each parser as a function of bytes, the property it keeps, and valid seeds.

A parser succeeds, or raises one TunekitError whose message is one short printable line; nothing
else. What it accepts it writes and reads back equal. Loaded by the property-based tests and by
guided.py, which fuzzes with coverage in a process of its own.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tunekit import recorded, records
from tunekit.candidates.fit import choose, fit
from tunekit.candidates.reading import read_text
from tunekit.core.candidate import Candidate
from tunekit.core.config import Config
from tunekit.core.counter import Counter
from tunekit.core.device import DEVICES, device_named
from tunekit.core.evaluation import Decision, Evaluation
from tunekit.core.expression import Expression, ExpressionError
from tunekit.core.problem import Problem, parse_dtype, parse_shape
from tunekit.core.space import Space, context
from tunekit.errors import TunekitError
from tunekit.evaluate.job import Job
from tunekit.evaluate.job_file import job_from_json, read_job
from tunekit.search import landscape
from tunekit.store.cache import read_cache
from tunekit.store.candidates import checked_candidate
from tunekit.store.counters import checked_counter
from tunekit.store.lines import parse_object
from tunekit.store.rows import checked_decision, checked_evaluation

ROOT = Path(__file__).resolve().parents[2]
LONGEST_MESSAGE = 2_600
"""Characters: a line of 2,000 at most, and what names the file."""

NAMES = {**context({"n": 4096, "rows": 7}, 4, DEVICES["h100"])}


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        parse: runs it on bytes; raises what it raises.
        seeds: valid inputs.
        longest: bytes of an input worth trying.
        tokens: pieces of its grammar, as a fuzzer may put them together.
    """

    parse: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]
    longest: int
    tokens: tuple[str, ...] = ()


def keeps_the_property(target: Target, data: bytes) -> bool:
    """Whether `data` was accepted.

    Raises:
        AssertionError: the error is not one line, or too long.
        Exception: what no parser may raise.
    """
    try:
        target.parse(data)
    except TunekitError as error:
        message = str(error)
        assert message, "an error without a word"
        assert message.isprintable(), f"not one printable line: {message!a}"
        assert len(message) <= LONGEST_MESSAGE, f"{len(message)} characters: {message[:200]}"
        return False
    return True


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _expression(data: bytes) -> None:
    try:
        expression = Expression.parse(_text(data))
        assert Expression.parse(expression.text) == expression
        value = expression.evaluate(NAMES)
    except ExpressionError as error:
        raise TunekitError(str(error)) from None  # a space says in front where it is
    # An independent reading of the same text; only what was found to be an expression gets here.
    scope = {"__builtins__": {}, "min": min, "max": max, "abs": abs, "cdiv": _cdiv}
    assert value == int(eval(expression.text, {**scope, "next_power_of_2": _power}, NAMES))


def _cdiv(dividend: int, divisor: int) -> int:
    return (dividend + divisor - 1) // divisor if divisor > 0 else -(dividend // -divisor * -1)


def _power(value: int) -> int:
    power = 1
    while power < value:
        power *= 2
    return power


def _space(data: bytes) -> None:
    space = Space.parse(_text(data), "fuzzed.toml", "fuzzed")
    assert Space.parse(_text(data), "fuzzed.toml", "fuzzed") == space
    try:
        default = space.default(NAMES)
        assert space.violated(default, NAMES) is None
    finally:
        if space.size <= 64:
            for config in space.configs(NAMES):
                assert space.violated(config, NAMES) is None
        elif space.size > 1_000_000:
            with contextlib.suppress(TunekitError):
                space.configs(NAMES)
                raise AssertionError("a space without bounds was gone through")


def _shape(data: bytes) -> None:
    shape = parse_shape(_text(data))
    assert parse_shape(",".join(map(str, shape))) == shape


def _names(data: bytes) -> None:
    text = _text(data)
    with contextlib.suppress(TunekitError):
        parse_dtype(text)
    device_named(text)


def _evaluation(data: bytes) -> None:
    record = records.from_line(_text(data))
    again = records.from_line(records.to_line(record))
    assert again == record
    match record:
        case Evaluation():
            assert checked_evaluation(record) == record
        case Decision():
            assert checked_decision(record) == record
        case Candidate():
            assert checked_candidate(record) == record
        case Counter():
            assert checked_counter(record) == record


def _evaluations(data: bytes) -> None:
    with _file(data, ".jsonl") as path:
        found = list(records.read_lines(path))
        records.write_lines(path, found)
        assert list(records.read_lines(path)) == found


def _configurations(data: bytes) -> None:
    contents = read_text(data.decode("utf-8", "replace"))
    assert contents.listed
    space = Space.load("pointwise")
    problem = Problem.of("mish_mish", "0a", {"n": 4096}, "float32", "p16", "h100")
    names = context({"n": 4096}, 4, DEVICES["h100"])
    chosen = choose(fit(contents, space, {}), space, names, problem, 4096)
    for each in chosen.fitting:
        assert space.violated(each.config, names) is None
        checked_candidate(
            Candidate(problem, each.config, each.listed.place, "2026-01-31T00:00:00Z")
        )


def _configuration_seeds() -> list[bytes]:
    config = b'{"BLOCK_SIZE": 512, "VEC": 4, "num_warps": 4, "num_stages": 1}'
    return [
        b"import itertools, triton\n"
        b"SIZES = [256 * 2 ** i for i in range(4)]\n"
        b"def keep(config):\n"
        b"    return config.kwargs['VEC'] < 4 or config.num_warps == 4\n"
        b"def some(least=512, *more, stages=1):\n"
        b"    found = []\n"
        b"    for size, vec in itertools.product(SIZES, (2, 4)):\n"
        b"        if size >= least:\n"
        b"            found.append(triton.Config({'BLOCK_SIZE': size, 'VEC': vec}, 4, stages))\n"
        b"    return list(filter(keep, found))\n"
        b"@triton.autotune(configs=some() + some(256, stages=2), key=['n'])\n"
        b"@triton.jit\n"
        b"def kernel(x): pass\n",
        b"import triton\nconfigs = [triton.Config(dict(BLOCK_SIZE=b, VEC=v), num_warps=w, "
        b"num_stages=1) for b in [512, 1536] for v in (1, 2) for w in [4, 8] if b > 128 * w]\n",
        b'{"key": [1], "configs_timings": [[{"kwargs": {"BLOCK_SIZE": 512, "VEC": 4}, "num_warps": '
        b'4, "num_ctas": 1, "num_stages": 1, "maxnreg": null, "pre_hook": null}, [0.2, 0.1, 0.3]], '
        b'[{"kwargs": {"BLOCK_SIZE": 256, "VEC": 1}, "num_warps": 1, "num_stages": 1}, Infinity]]}',
        b'{"triton_version": "3.4.0", "16": %s, "M_LEQ_256": %s, "any": %s}' % ((config,) * 3),
        b"[%s]" % config,
        b'{"schema": "tunekit-export/1", "entries": [{"kernel": "mish_mish", "dtype": "float32", '
        b'"device": "h100", "dims": {"n": 4096}, "config": %s}]}' % config,
        b'{"schema": "tunekit-portfolio/1", "portfolios": [{"kernel": "mish_mish", "device": '
        b'"h100", "configs": [%s]}]}' % config,
    ]


def _recording(data: bytes) -> None:
    line = recorded.from_line(_text(data))
    assert recorded.from_line(recorded.to_line(line)) == line


def _recordings(data: bytes) -> None:
    with _file(data, ".jsonl") as path:
        recorded.read(path)


def _landscape(data: bytes) -> None:
    # What is inside: a fuzzer seldom gets a check sum right.
    with _file(gzip.compress(data, 1, mtime=0), ".csv.gz") as path:
        origin, found = landscape.read(path)
        landscape.write(found, origin, path)
        again = landscape.read(path)[1]
        assert [each.problem for each in again] == [each.problem for each in found]
        for one, other in zip(found, again, strict=True):
            assert [p.config for p in one.points] == [p.config for p in other.points]
            assert min(one.regrets.values()) == 0.0


def _compressed(data: bytes) -> None:
    with _file(data, ".csv.gz") as path:
        landscape.read(path)


def _job(data: bytes) -> None:
    job = job_from_json(parse_object(_text(data)))
    assert job_from_json(json.loads(json.dumps(job.to_json()))) == job


def _job_file(data: bytes) -> None:
    with _file(data, ".json") as path:
        try:
            read_job(str(path))
        finally:
            read_job(f"{path}:1")


def _database(data: bytes) -> None:
    with _file(data, ".db") as path:
        read_cache(path)


@contextlib.contextmanager
def _file(data: bytes, suffix: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        path = Path(folder) / f"fuzzed{suffix}"
        path.write_bytes(data)
        yield path


@cache
def _memory() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _space_seeds() -> list[bytes]:
    shipped = [path.read_bytes() for path in sorted((ROOT / "spaces").glob("*.toml"))]
    own = b'[axes]\nA = {from = 1, to = 8}\nB = [1, 3]\n[default]\nA = "min(n, 2)"\nB = 3\n'
    return [*shipped, own, own + b'[constraints]\nsmall = "A * B <= 16"\n']


def _expression_seeds() -> list[bytes]:
    return [
        b"cdiv(n, 128) * 2 - 1",
        b"min(n, rows, 3) if n > 1 and not rows == 2 else -abs(n)",
        b"next_power_of_2(n // 3) % 7 <= 5 or n >= 1 != 0 < rows",
        b"max(1, n) + True - False",
        b"1_000 * (n + 1)",
    ]


@cache
def _rows() -> tuple[bytes, ...]:
    """Lines of the shipped database, one of each status and source, decisions, and the others."""
    from tunekit.store.database import Store

    with Store.open(ROOT / "studies.db", readonly=True, immutable=True) as store:
        evaluations, decisions = store.evaluations(), store.decisions()
    kinds = {(each.status, each.source): each for each in evaluations}
    some = decisions[0]
    moment = some.created_at
    every = [
        *kinds.values(),
        some,
        decisions[-1],
        Candidate(some.problem, evaluations[0].config, "configs.py line 3", moment),
        Counter(some.winner, "dram__bytes.sum", 1e6, "byte", "Nsight Compute", moment),
    ]
    return tuple(records.to_line(each).encode() for each in every)


_SHORT_FORM = (
    b'{"kernel": "mine", "dims": {"n": 4096}, "dtype": "float8_e4m3fn", "device": "h100", '
    b'"config": {"BLOCK": 128}, "status": "ok", "samples_us": [1.5, 2], "n_regs": 32}'
)


def _lines_seeds() -> list[bytes]:
    text = b"\n".join(_rows())
    return [text[:6_000], *_rows()[:2], gzip.compress(_rows()[-1] + b"\n", mtime=0)]


_RECORDED = (
    b'{"record": "calls", "format": 1, "kernel": "mish_mish", "kernel_hash": "0a1b", "dims": '
    b'{"n": 4096}, "dtype": "float32", "alignment": "p16,p16,i32x16", "device": "h100", '
    b'"reference": "mish_mish", "shape": [64, 64], "served": "default", "config": {"BLOCK_SIZE": '
    b'1024}, "count": 3, "bytes_moved": 32768, "time_us": 1.5, "timed": "bound", "tunekit": "1"}'
)


def _landscape_seeds() -> list[bytes]:
    found = []
    for path in sorted((ROOT / "benchmarks" / "landscapes").glob("*.csv.gz")):
        with gzip.open(path) as file:
            found.append(b"".join(file.readline() for _ in range(12)))
    return found


def _job_seeds() -> list[bytes]:
    config = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
    job = Job("mish_mish", (64, 64), "float32", {"scale": 2.0}, config, "h100")
    short = ("kernel", "shape", "dtype", "scalars", "config", "target")
    full = job.to_json()
    return [
        json.dumps(each).encode()
        for each in (full, {name: full[name] for name in short}, {"event": "done", "job": full})
    ]


def _database_seeds() -> list[bytes]:
    """A small database with a decision, as bytes."""
    from tunekit.store.database import Store

    with tempfile.TemporaryDirectory() as folder:
        path, copy = Path(folder) / "one.db", Path(folder) / "copy.db"
        with Store.open(ROOT / "studies.db", readonly=True, immutable=True) as shipped:
            decision = shipped.decisions()[0]
            rows = [row for row in shipped.evaluations() if row.uid in decision.rows][:2]
        winner = next((row for row in rows if row.verified), None)
        with Store.open(path) as store:
            store.add(rows)
            if winner is not None:
                kept = records.decision_to_dict(decision) | {
                    "winner": winner.uid,
                    "default": "",
                    "rows": [winner.uid],
                }
                del kept["uid"]
                store.decide(records.decision_from_dict(kept))
            store.publish(copy)
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        return [copy.read_bytes()]


def _broken(data: bytes) -> None:
    """What has a mistake in it: whether a fuzzer finds it is tested, too."""
    if data[:1] == b"T" and data[1:2] == b"O" and data[2:4] == b"ML":
        raise TunekitError("two\nlines")


_JSON = ('"', "{", "}", "[", "]", ":", ",", "null", "true", "-1", "1e999", "NaN", "\\ud800", "\\n")
_FIELDS = (
    *(f'"{name}"' for name in (*records.EVALUATION_KEYS, *records.DECISION_KEYS)),
    '"ok"', '"measured"', '"estimated"', '"device"', '"interpreter"', '"inf"', '"evaluation"',
    '"decision"', '"calls"', "281474976710656", "2026-01-31T23:59:59Z",
)  # fmt: skip

TARGETS: dict[str, Target] = {
    "expressions": Target(
        _expression, _expression_seeds, 600,
        ("cdiv(", "min(", "max(", "abs(", "next_power_of_2(", " if ", " else ", " and ", " or ",
         "not ", "//", "**", "<=", "True", "lambda", "9223372036854775807", "n", "sm_count"),
    ),
    "space files": Target(
        _space, _space_seeds, 4_096,
        ("[axes]", "[default]", "[constraints]", "description", "{from = 1, to = 8}", '"""', "'''",
         "0x", "1_0", "[[axes]]", "itemsize", "sm_count", "\\u001b", "= [", "\n", ".", '"'),
    ),
    "shapes": Target(_shape, lambda: [b"64,128,254,254", b"(64, 128)", b"3x4"], 5_000),
    "dtypes and devices": Target(_names, lambda: [b"torch.bfloat16", b"RTX 4090"], 300),
    "evaluation and decision lines": Target(
        _evaluation, lambda: [*_rows(), _SHORT_FORM], 6_000, (*_JSON, *_FIELDS)
    ),
    "evaluation files": Target(_evaluations, _lines_seeds, 8_000, (*_JSON, *_FIELDS)),
    "configurations of other tools": Target(
        _configurations, _configuration_seeds, 3_000,
        (*_JSON, "triton.Config(", "num_warps=", "for b in ", "range(", "if ", "else ", "\n    ",
         "lambda c: ", "return ", "yield ", "**", "*", "<<", "==", "SIZES", "while True:", "+ ",
         "itertools.product(", ".append(", ".kwargs", "Infinity", '"kwargs"', '"entries"', "max("),
    ),
    "recorded lines": Target(_recording, lambda: [_RECORDED], 2_000, (*_JSON, *_FIELDS)),
    "recorded files": Target(_recordings, lambda: [_RECORDED + b"\n" + _RECORDED], 3_000, _JSON),
    "landscapes": Target(_landscape, _landscape_seeds, 3_000, (",", "\n", '"', "=", "ok", "inf")),
    "landscape files": Target(
        _compressed, lambda: [gzip.compress(each, mtime=0) for each in _landscape_seeds()], 2_000
    ),
    "job lines": Target(_job, _job_seeds, 2_000, (*_JSON, '"scalars"', '"deadline_s"', '"target"')),
    "job files": Target(_job_file, _job_seeds, 2_000, (*_JSON, '"event"', '"job"')),
    "databases": Target(_database, _database_seeds, 120_000),
}  # fmt: skip

BROKEN = {"what is broken": Target(_broken, lambda: [b"seed"], 10)}
