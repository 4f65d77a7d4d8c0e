"""The program that Nsight Compute watches: it launches configurations of one problem.

`python -m tunekit.profile.child FOLDER INDEX` on CUDA GPU number INDEX. Each job of the folder is
launched on the inputs it was tuned on: once to load it, and once between `cudaProfilerStart` and
`cudaProfilerStop`, where nothing else is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.cuda import profiler

from tunekit.errors import DeviceMemoryError, TunekitError
from tunekit.evaluate.compile import compile_launch, ordered_arguments
from tunekit.evaluate.guards import NOT_A_NUMBER, Buffers, prepare
from tunekit.evaluate.inputs import draw_for
from tunekit.evaluate.job import Job
from tunekit.evaluate.text import one_line
from tunekit.gpu import select_gpu
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch
from tunekit.kernels.registry import find_kernel
from tunekit.profile.folder import Folder, Launched


def launch_all(jobs: Sequence[Job], index: int) -> list[Launched]:
    """Launch each job, all of one problem, on the same tensors.

    Raises:
        DeviceMemoryError: they do not fit.
        TunekitError: there is no such GPU or kernel.
    """
    device = select_gpu(index).device
    first = jobs[0]
    kernel = find_kernel(first.kernel)
    launch = kernel.launch_for(first.shape, first.dtype, device)
    try:
        buffers = Buffers.of(launch, "cuda")
        draw_for(kernel, buffers.inputs, first.shape, first.dtype, first.seed)
        return [_launch(kernel, launch, buffers, job) for job in jobs]
    except torch.OutOfMemoryError:
        raise DeviceMemoryError(
            f"{kernel.name} at {kernel.shape_text(first.shape)} {first.dtype} does not fit in the "
            "GPU's free memory: use a smaller --shape"
        ) from None


def _launch(kernel: Kernel, launch: Launch, buffers: Buffers, job: Job) -> Launched:
    scalars = kernel.scalar_values(job.scalars)
    compiled = compile_launch(launch, job.config, scalars)
    bound = launch.bind(buffers.inputs, buffers.outputs, scalars, job.config)
    arguments, grid = ordered_arguments(launch.function, bound), launch.grid(job.config)

    def run() -> None:
        compiled.launch(grid, arguments)
        torch.cuda.synchronize()

    prepare(launch, buffers.inputs, buffers.outputs, NOT_A_NUMBER)
    run()  # what is loaded at the first launch is not to be profiled
    prepare(launch, buffers.inputs, buffers.outputs, NOT_A_NUMBER)
    torch.cuda.synchronize()
    profiler.start()
    run()
    profiler.stop()
    return Launched(compiled.binary.hash, grid)


def main(folder: Folder, index: int) -> int:
    """Run; returns the exit status. Why there was no launch is left in the folder."""
    try:
        folder.write_launched(launch_all(folder.read_jobs(), index))
    except TunekitError as error:
        folder.write_error(str(error))
        return 1
    except (Exception, SystemExit) as error:
        folder.write_error(one_line(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Folder(Path(sys.argv[1])), int(sys.argv[2])))
