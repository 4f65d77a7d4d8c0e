from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from triton.runtime import driver

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.evaluate.compile import CompileOnlyDriver
from tunekit.kernels.registry import find_kernel
from tunekit.rules.check import Checked, check

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def checked() -> Iterator[Callable[..., Checked]]:
    """Checks a kernel of a file here, or of the library, for a GPU that need not be present."""
    with pytest.MonkeyPatch.context() as patch:

        def check_it(
            name: str,
            shape: tuple[int, ...],
            dtype: str = "float32",
            *,
            target: str = "rtx4090",
            config: Config | None = None,
            file: str = "kernels.py",
        ) -> Checked:
            device = DEVICES[target]
            patch.setattr(driver, "_active", CompileOnlyDriver(device))
            kernel = find_kernel(f"{HERE / file}:{name}" if file else name)
            launch = kernel.launch_for(shape, dtype, device)
            return check(kernel, launch, config or kernel.default(launch, device), device)

        yield check_it
