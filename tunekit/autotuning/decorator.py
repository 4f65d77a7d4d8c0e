"""`@tunekit.autotune`, which takes the place of `@triton.autotune`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tunekit.autotuning.arguments import SpaceLike
from tunekit.autotuning.autotuned import Autotuned
from tunekit.autotuning.serving import OnMiss


def autotune(
    configs: Iterable[Any] | None = None,
    key: Iterable[str] | None = None,
    prune_configs_by: Mapping[str, Any] | None = None,
    reset_to_zero: Iterable[str] | None = None,
    restore_value: Iterable[str] | None = None,
    pre_hook: Callable[..., object] | None = None,
    post_hook: Callable[..., object] | None = None,
    warmup: int | None = None,
    rep: int | None = None,
    use_cuda_graph: bool = False,
    do_bench: Callable[..., Any] | None = None,
    cache_results: bool = False,
    *,
    space: SpaceLike | None = None,
    on_miss: str = OnMiss.NEAREST,
    buffers: Iterable[str] | None = None,
) -> Callable[[Any], Autotuned]:
    """Choose a kernel's configuration by what was measured of it, in this process or another.

        @tunekit.autotune(configs=[triton.Config({"BLOCK": 1024}, num_warps=4), …], key=["n"])
        @triton.jit
        def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr): …

    What is said of the arguments in Triton's own documentation holds. A call is served what won
    for its problem: the values of the key's arguments, dtypes, alignment class, GPU model and the
    kernel's source. For a problem that nothing was measured for, `on_miss` says what to do;
    `TUNEKIT_ON_MISS` says it for all kernels of a process.

    Args:
        configs: what to choose from, `triton.Config`; the first is the default, and what all
            others are compared with.
        key: names of arguments whose values tell problems apart.
        prune_configs_by: `early_config_prune`, `perf_model` and `top_k`, as Triton's.
        reset_to_zero: arguments that are zero before each launch that is measured.
        restore_value: arguments that hold the caller's values before each launch that is measured.
        pre_hook: called before each launch that is measured, in place of those two.
        post_hook: called after each.
        warmup: deprecated by Triton, and without effect here.
        rep: the same.
        use_cuda_graph: the same: launches are always timed in CUDA graphs, where they can be.
        do_bench: takes the times instead: `do_bench(call, quantiles=…)` in milliseconds.
        cache_results: without effect: results are always kept.
        space: in place of `configs`: the name of a search space, its file, what such a file says,
            or the values of each axis, the first of which is the default.
        on_miss: `nearest`: what won at the nearest sizes, else the default; `default`; or `tune`:
            measure in the call, on copies of its tensors.
        buffers: names of arguments that a launch writes and that are no result, such as scratch
            memory whose contents depend on the configuration: they are not compared.

    Raises:
        TunekitError: when the kernel is defined, of something that cannot be meant so.
    """

    def decorate(function: Any) -> Autotuned:
        return Autotuned(
            function,
            configs,
            key,
            space=space,
            on_miss=on_miss,
            buffers=buffers,
            options={
                "reset_to_zero": reset_to_zero,
                "restore_value": restore_value,
                "pre_hook": pre_hook,
                "post_hook": post_hook,
                "prune_configs_by": prune_configs_by,
                "warmup": warmup,
                "rep": rep,
                "use_cuda_graph": use_cuda_graph,
                "do_bench": do_bench,
                "cache_results": cache_results,
            },
        )

    return decorate
