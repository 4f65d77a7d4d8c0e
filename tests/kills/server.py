"""Does what tests ask for, one line of JSON each: the name of a function and its arguments."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

import faulty_disk
import killer

FUNCTIONS = {
    function.__name__: function
    for function in (
        killer.kill_at_random,
        killer.kill_at_statements,
        killer.kill_at_one,
        faulty_disk.fill,
        faulty_disk.forbid,
    )
}

if __name__ == "__main__":
    for line in sys.stdin:
        name, *arguments, folder = json.loads(line)
        try:
            answer = {"counted": FUNCTIONS[name](*arguments, Path(folder))}
        except Exception:
            answer = {"failed": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
