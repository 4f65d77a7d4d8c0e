"""Where the databases, what can be made again, and the logs are."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_DATABASE = "studies.db"


def shipped_database() -> Path:
    """The read-only database that comes with tunekit.

    An installed package carries it; a checkout has it at the top of the repository. The file of
    the checkout is also the answer when there is neither, so the path need not exist.
    """
    inside = _PACKAGE / _DATABASE
    return inside if inside.is_file() else _PACKAGE.parent / _DATABASE


def shipped_landscapes() -> Path:
    """The folder of recorded landscapes that come with tunekit; it need not exist."""
    inside = _PACKAGE / "landscapes"
    return inside if inside.is_dir() else _PACKAGE.parent / "benchmarks" / "landscapes"


def user_database() -> Path:
    """The person's own database: `TUNEKIT_DB`, else a file in the user's data folder.

    Neither the file nor its folder is created here.
    """
    named = os.environ.get("TUNEKIT_DB")
    if named:
        return Path(os.path.expanduser(named))
    return _platform_folder("user_data_dir") / _DATABASE


def cache_folder() -> Path:
    """Where what can be made again is kept: `TUNEKIT_CACHE`, else in the user's cache folder."""
    named = os.environ.get("TUNEKIT_CACHE")
    return Path(os.path.expanduser(named)) if named else _platform_folder("user_cache_dir")


def log_folder() -> Path | None:
    """Where runs leave their logs: `TUNEKIT_LOG`, else in the user's log folder.

    None where `TUNEKIT_LOG` is `/dev/null`: no log is wanted.
    """
    named = os.environ.get("TUNEKIT_LOG")
    if named == os.devnull:
        return None
    return Path(os.path.expanduser(named)) if named else _platform_folder("user_log_dir")


def _platform_folder(kind: str) -> Path:
    # The run-time path imports this module: what it may not need, it does not load.
    import platformdirs

    return Path(getattr(platformdirs, kind)("tunekit", appauthor=False))
