"""What tunekit warns of without failing."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

_PACKAGE = __name__.partition(".")[0]


class TunekitWarning(UserWarning):
    """A call is served, but not as well as it could be; the message says what to do."""


def warn(text: str) -> None:
    """Warn in the name of the first line up the stack that is not tunekit's own."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_own(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, TunekitWarning, stacklevel=level)


def _is_own(frame: FrameType) -> bool:
    module: str = frame.f_globals.get("__name__", "")
    return module.partition(".")[0] == _PACKAGE
