"""The exceptions a user can meet.

    TunekitError
    ├── UsageError               wrong command line or arguments        (exit status 2)
    │   ├── ShapeError           a shape or dtype that cannot be tuned
    │   ├── UnknownKernelError   no kernel of that name
    │   └── UnknownDeviceError   no GPU of that name in the table
    ├── SpaceError               a space file that is wrong, or leaves nothing
    ├── KernelError              a kernel definition or call that is wrong
    ├── StoreError               a database that cannot be used
    │   ├── StoreLockedError     another process holds it
    │   └── StoreVersionError    written by a newer tunekit, or not a tunekit database
    ├── ImportFormatError        a line of a .jsonl file that is not an evaluation
    ├── DeviceMemoryError        a problem that does not fit on the GPU
    ├── ClaimedError             another process tunes that problem into the same database
    ├── WorkerError              the process that evaluates cannot be kept running
    ├── ProfileError             hardware counters cannot be read here
    └── NothingTunedError        every configuration failed; nothing was cached

Every message is one line that says what is wrong, where, and what to do.
"""


class TunekitError(Exception):
    """Base of everything tunekit raises on purpose; `exit_status` is the command line's."""

    exit_status = 1


class UsageError(TunekitError):
    """The command line or an argument is wrong."""

    exit_status = 2


class ShapeError(UsageError):
    """A shape or dtype that cannot be tuned."""


class UnknownKernelError(UsageError):
    """No kernel has that name."""


class UnknownDeviceError(UsageError):
    """No GPU of that name is in the device table."""


class SpaceError(TunekitError):
    """A search space that is wrong, or whose constraints leave nothing."""


class KernelError(TunekitError):
    """A kernel definition, or a call of a kernel, that is wrong."""


class StoreError(TunekitError):
    """A database that cannot be opened, read or written."""


class StoreLockedError(StoreError):
    """Another process holds the database."""


class StoreVersionError(StoreError):
    """A database of a newer tunekit, or of another program."""


class ImportFormatError(TunekitError):
    """A line of an evaluations file that does not follow the format."""


class DeviceMemoryError(TunekitError):
    """A problem that does not fit in the GPU's memory."""


class ClaimedError(TunekitError):
    """Another process tunes that problem, for the same database."""


class WorkerError(TunekitError):
    """The process that runs evaluations cannot be started or keeps dying."""


class ProfileError(TunekitError):
    """Hardware counters cannot be read: no profiler, not allowed, or it did not work."""


class NothingTunedError(TunekitError):
    """Every configuration failed, so nothing was cached."""
