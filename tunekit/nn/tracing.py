"""What a module's code does, as graphs of torch.fx: one for training and one for evaluation."""

from __future__ import annotations

import copy
import inspect
import itertools
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.fx._symbolic_trace import _assert_is_none
from torch.nn.modules.conv import _ConvNd

from tunekit.errors import KernelError
from tunekit.nn.conv import Fused

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@dataclass(frozen=True, slots=True)
class Traced:
    """Graphs of one module.

    Attributes:
        graphs: in the module's own mode, training or not, and in the other.
        leaves: names of the modules of its own that no graph looks into.
        bound: why no graph can take the place of the code; empty where the first can.
    """

    graphs: tuple[fx.Graph, ...]
    leaves: frozenset[str]
    bound: str


class UntraceableError(Exception):
    """Why a module's code is no graph."""


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody is told of its calls."""
    return any(getattr(module, name, None) for name in _HOOKS)


def shared_copy(model: nn.Module) -> nn.Module:
    """A copy with the same parameters and buffers: the very tensors.

    Raises:
        KernelError: something in it cannot be copied.
    """
    tensors = itertools.chain(model.parameters(), model.buffers())
    memo: dict[int, Any] = {id(tensor): tensor for tensor in tensors}
    try:
        made = copy.deepcopy(model, memo)
    except Exception as error:
        raise KernelError(f"{type(model).__name__} cannot be copied: {one_line(error)}") from error
    assert isinstance(made, nn.Module)
    return made


def one_line(error: BaseException) -> str:
    """Its class and the first line of what it says."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def trace(root: nn.Module) -> Traced:
    """The graphs of a module, which is not changed.

    Modules of PyTorch are not looked into, nor those with hooks. If tracing fails, no module of
    anybody's own is, so that one whose code is no graph hides nothing but itself.

    Raises:
        UntraceableError: its own code is no graph, or is one that depends on its arguments.
        KernelError: it cannot be copied.
    """
    inlined = _Sketch(root, inline=True)
    try:
        return inlined.traced()
    except UntraceableError as error:
        apart = _Sketch(root, inline=False)
        if apart.leaves == inlined.leaves:
            raise
        try:
            return apart.traced()
        except UntraceableError:
            raise error from None


class _Tracer(fx.Tracer):
    """PyTorch's own, but for what it looks into."""

    proxy_buffer_attributes = True

    def __init__(self, is_leaf: Callable[[nn.Module], bool] | None = None) -> None:
        super().__init__()
        self._is_leaf = is_leaf

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if self._is_leaf is not None and self._is_leaf(m):
            return True
        return isinstance(m, Fused | _ConvNd) or super().is_leaf_module(m, module_qualified_name)


class _Sketch:
    """Traces copies of a module, which may be written to by its code."""

    def __init__(self, root: nn.Module, *, inline: bool) -> None:
        self._root = root
        self._inline = inline
        self.leaves = frozenset(self._leaves(root, ""))

    def _is_leaf(self, module: nn.Module) -> bool:
        return has_hooks(module) or not (self._inline or _is_of_torch(module))

    def _leaves(self, module: nn.Module, prefix: str) -> Iterator[str]:
        for name, child in module.named_children():
            if self._is_leaf(child):
                yield prefix + name
            else:
                yield from self._leaves(child, f"{prefix}{name}.")

    def traced(self) -> Traced:
        graphs = [self._of_mode(mode) for mode in (self._root.training, not self._root.training)]
        bound = ""
        if _text(graphs[0]) != _text(graphs[1]):
            bound = "its code looks at self.training"
        elif not all(_is_of(self._root, node) for node in graphs[0].nodes):
            bound = "its code makes tensors, or holds some that are no parameters or buffers"
        elif has_hooks(self._root):
            bound = "it has hooks"
        return Traced(tuple(graphs), self.leaves, bound)

    def _of_mode(self, training: bool) -> fx.Graph:
        """Of a call with every argument, which has to be that of one without the defaults."""
        graph = self._graph(training, {})
        if defaults := _defaults(self._root):
            plain = self._graph(training, defaults)
            if _text(graph) != _text(plain):
                raise UntraceableError(f"what it does depends on {', '.join(defaults)}")
        return graph

    def _graph(self, training: bool, defaults: Mapping[str, Any]) -> fx.Graph:
        if "forward" in vars(self._root):
            raise UntraceableError("its forward was replaced")
        sketch = shared_copy(self._root)
        if training is not self._root.training:
            sketch.train(training)
        states = random.getstate(), torch.get_rng_state()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                graph = _Tracer(self._is_leaf).trace(sketch, dict(defaults) or None)
        except Exception as error:  # the model's own code runs, and may raise anything
            raise UntraceableError(one_line(error)) from error
        drawn = random.getstate() != states[0] or not torch.equal(torch.get_rng_state(), states[1])
        random.setstate(states[0])
        torch.set_rng_state(states[1])
        if drawn:
            raise UntraceableError("its code draws random numbers")
        for name, module in sketch.named_modules():
            kept = [key for key, value in vars(module).items() if isinstance(value, fx.Proxy)]
            if kept:
                raise UntraceableError(f"its code sets {'.'.join(filter(None, (name, kept[0])))}")
        return graph


def _is_of_torch(module: nn.Module) -> bool:
    return type(module).__module__.split(".")[0] == "torch"


def _defaults(root: nn.Module) -> dict[str, Any]:
    parameters = inspect.signature(root.forward).parameters
    return {
        name: each.default for name, each in parameters.items() if each.default is not each.empty
    }


def _is_of(root: nn.Module, node: fx.Node) -> bool:
    """Whether what a node takes from the module is among its parameters and buffers."""
    if node.op != "get_attr":
        return True
    owner, _, name = str(node.target).rpartition(".")
    holder = root.get_submodule(owner)
    return name in holder._parameters or name in holder._buffers


def _text(graph: fx.Graph) -> list[str]:
    """What a graph computes, an argument that has a default taken as that."""
    lines: list[str] = []
    names: dict[fx.Node, _Name] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            names[node] = _Name(repr(node.args[0]) if node.args else node.target)
        elif _checks(node) or (node.users and all(map(_checks, node.users))):
            continue
        else:
            names[node] = _Name(f"%{len(lines)}")
            given = fx.node.map_arg((node.args, node.kwargs), names.__getitem__)
            lines.append(f"{node.op} {node.target!r} {given}")
    return lines


def _checks(node: fx.Node) -> bool:
    """Whether it holds an argument to the value it had when it was traced."""
    return node.op == "call_function" and node.target in (torch._assert, _assert_is_none)


class _Name(str):
    """What is printed without quotes."""

    __slots__ = ()
    __repr__ = str.__str__
