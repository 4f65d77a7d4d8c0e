"""All checks but that of the versions, in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunekit.doctor.check import Check, guarded
from tunekit.doctor.compiling import check_compiler, check_worker
from tunekit.doctor.databases import check_database
from tunekit.doctor.folders import check_folders
from tunekit.doctor.gpus import check_driver, check_models, read_gpus
from tunekit.doctor.versions import check_torch
from tunekit.driver import Driver, read_driver
from tunekit.here import Here
from tunekit.paths import shipped_database

_WITHOUT_GPU = "rtx4090"
"""The model that is compiled for where there is no GPU of the table."""


def diagnose(database: Path) -> Iterator[Check]:
    """Check everything; each is given as soon as it is known.

    Args:
        database: the person's.
    """
    driver = Driver()
    try:
        driver = read_driver()
    except Exception as error:  # a library of another driver may do anything
        driver = Driver(trouble=f"NVML fails: {type(error).__name__}: {error}")
    yield from guarded("driver", lambda: check_driver(driver))
    has_driver = driver.version and not driver.trouble
    cuda = (driver.cuda or (0, 0)) if has_driver else None
    yield from guarded("PyTorch", lambda: check_torch(cuda))
    gpus = read_gpus() if has_driver else []
    yield from guarded("GPU", lambda: check_models(gpus))
    first = gpus[0] if gpus else None
    known = first is not None and first["in_table"]
    target = str(first["slug"]) if first is not None and known else _WITHOUT_GPU
    config: dict[str, int] = {}
    yield from guarded("compiler", lambda: check_compiler(target, config))
    if config:
        index = None if first is None else 0
        model = target if first is None else str(first["slug"])
        yield from guarded("worker", lambda: check_worker(index, model, config))
    yield from guarded("folders", lambda: check_folders(database))
    here = Here.found()
    yield from guarded("your database", lambda: check_database("your database", database, here))
    shipped = shipped_database()
    yield from guarded(
        "shipped database",
        lambda: check_database("shipped database", shipped, here, shipped=True),
    )
