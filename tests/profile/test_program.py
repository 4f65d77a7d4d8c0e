"""A program is run to its end or to its deadline, with all it started."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tunekit.evaluate.processes import descendants
from tunekit.profile import program
from tunekit.profile.program import Ended, run_program


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def alive(pid: int) -> bool:
    """Whether it runs; a process that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_what_it_says_and_how_it_ends() -> None:
    source = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    ended = run_program([sys.executable, "-u", "-c", source], 30.0)
    assert ended == Ended(3, "out\nerr\n")


def test_it_finds_nothing_to_read_and_the_environment_given() -> None:
    source = "import os, sys; print(repr(sys.stdin.read()), os.environ['LC_ALL'])"
    assert run_program(python(source), 30.0, {"LC_ALL": "C"}).said == "'' C\n"


def test_a_signal_is_a_negative_status() -> None:
    assert run_program(python("import os; os.kill(os.getpid(), 9)"), 30.0).status == -9


def test_of_much_that_it_says_the_end_is_kept() -> None:
    ended = run_program(python("print('x' * 1_000_000); print('the end')"), 30.0)
    assert ended.status == 0
    assert len(ended.said) <= program._SAID_BYTES
    assert ended.said.endswith("the end\n")


def test_bytes_that_are_no_text_are_no_failure() -> None:
    ended = run_program(python(r"import os; os.write(1, b'\xff\xfe ok\n')"), 30.0)
    assert ended == Ended(0, "\ufffd\ufffd ok\n")


def test_at_its_deadline_all_it_started_is_killed() -> None:
    started = (
        "import subprocess, sys, time\n"
        "own = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " start_new_session=True)\n"
        "print(own.pid, flush=True)\n"
        "time.sleep(60)"
    )
    began = time.monotonic()
    ended = run_program(python(started), 2.0)
    assert time.monotonic() - began < 30.0
    assert ended.status is None
    assert not alive(int(ended.said))


def test_a_program_that_closes_its_output_still_has_its_deadline() -> None:
    closes = "import os, time; os.close(1); os.close(2); time.sleep(60)"
    assert run_program(python(closes), 1.0) == Ended(None, "")
    quick = "import os, sys; os.close(1); os.close(2); os._exit(4)"
    assert run_program(python(quick), 30.0) == Ended(4, "")


def test_what_is_left_behind_with_the_output_open_keeps_nobody_waiting(tmp_path: Path) -> None:
    left = tmp_path / "left"
    leaves = (
        "import subprocess, sys\n"
        "own = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'])\n"
        f"open({str(left)!r}, 'w').write(str(own.pid))\n"
        "print('done', flush=True)"
    )
    began = time.monotonic()
    assert run_program(python(leaves), 60.0) == Ended(0, "done\n")
    assert time.monotonic() - began < 15.0


def test_an_interrupt_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    before = set(descendants(os.getpid()))
    monkeypatch.setattr(program, "_watched", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_program(python("import time; time.sleep(60)"), 60.0)
    assert set(descendants(os.getpid())) <= before


def test_what_cannot_be_started_raises() -> None:
    with pytest.raises(OSError, match="No such file"):
        run_program(["/nowhere/ncu"], 1.0)
