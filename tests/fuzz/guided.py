"""Fuzz one parser, guided by coverage, for some seconds: `guided.py TARGET SECONDS FOLDER`.

A process of its own, because libFuzzer ends the one it runs in. Memory and the time of one input
are bounded. The last line says how many inputs were tried; what breaks the property is left in
FOLDER and makes the exit status other than 0.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))
with atheris.instrument_imports(
    include=["tunekit", "tomllib", "targets"], enable_loader_override=False
):
    import targets

MEMORY_BYTES = 6 * 2**30
RSS_MB = 2_048
SLOWEST_S = 10


def main(name: str, seconds: int, folder: Path) -> None:
    """Fuzz the target of that name; does not return."""
    target = (targets.TARGETS | targets.BROKEN)[name]
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / str(number)).write_bytes(seed)
    tokens = folder / "tokens"
    tokens.write_text("".join(f'"{_escaped(token)}"\n' for token in target.tokens or ("\0",)))
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={target.longest}",
        f"-timeout={SLOWEST_S}",
        f"-rss_limit_mb={RSS_MB}",
        f"-artifact_prefix={folder}/found-",
        f"-dict={tokens}",
        "-seed=1",
        "-verbosity=0",
        "-print_final_stats=1",
        str(corpus),
    ]
    # What is malloc'ed beyond that is a MemoryError, which no parser may raise.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    atheris.Setup([sys.argv[0], *options], lambda data: _try(target, data))
    atheris.Fuzz()


def _try(target: targets.Target, data: bytes) -> None:
    targets.keeps_the_property(target, data)


def _escaped(token: str) -> str:
    return "".join(
        char if char.isalnum() else f"\\x{byte:02x}" for char in token for byte in char.encode()
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
