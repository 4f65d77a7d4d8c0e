"""Convolutions in a graph, what follows each, and the kernel for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from tunekit.nn.conv import FUSED, Fused
from tunekit.nn.patterns import Match, Pattern, longest
from tunekit.nn.steps import (
    Steps,
    in_words,
    read_function,
    read_method,
    read_module,
)
from tunekit.nn.tracing import has_hooks


@dataclass(frozen=True, slots=True)
class Chain:
    """A convolution and the nodes that its kernel replaces, at all its calls.

    Attributes:
        nodes: those that go.
        match: the kernel and its scalars.
        steps: what the nodes of one call compute.
        rest: what pointwise steps follow that the kernel leaves.
    """

    nodes: tuple[fx.Node, ...]
    match: Match
    steps: Steps
    rest: Steps

    def is_like(self, other: Chain) -> bool:
        """Whether the same modules do the same in another graph."""
        return self.match == other.match and self._targets() == other._targets()

    def _targets(self) -> list[object]:
        return [node.target for node in self.nodes]


Findings = dict[str, Chain | str]
"""For each convolution by name its chain, or why there is none."""


def is_convolution(module: nn.Module) -> bool:
    """Whether it is one of PyTorch's convolutions or derives from one, and is not fused yet."""
    return isinstance(module, _ConvNd) and not isinstance(module, Fused)


def unsuited(conv: nn.Module) -> str:
    """Why this convolution cannot be fused, whatever follows it; empty if it can."""
    if parametrize.is_parametrized(conv):
        return "it is parametrized"
    if type(conv) not in FUSED:
        return f"{type(conv).__name__} is a class of its own, which may compute something else"
    if has_hooks(conv):
        return "it has hooks, which expect its own result"
    if "forward" in vars(conv):
        return "its forward was replaced"
    return ""


def chains_in(
    graph: fx.Graph,
    root: nn.Module,
    names: Sequence[str],
    patterns: Sequence[Pattern],
    *,
    modules_only: bool = False,
) -> Findings:
    """What becomes of the convolutions of that name in a graph of `root`.

    With `modules_only` a chain consists of calls of modules.
    """
    calls: dict[str, list[fx.Node]] = {name: [] for name in names}
    for node in graph.nodes:
        if node.op == "call_module" and node.target in calls:
            calls[node.target].append(node)
    found: Findings = {}
    for name, nodes in calls.items():
        why = unsuited(root.get_submodule(name))
        found[name] = why or _joined([_chain(each, root, patterns, modules_only) for each in nodes])
    return found


def _joined(chains: Sequence[Chain | str]) -> Chain | str:
    """One chain for all calls of a convolution, if its kernel suits each."""
    if not chains:
        return "no call of it was found"
    times = "" if len(chains) == 1 else f"called {len(chains)} times; "
    first = chains[0]
    nodes: list[fx.Node] = []
    for chain in chains:
        if isinstance(chain, str):
            return times + chain
        assert isinstance(first, Chain)
        if chain.match != first.match:
            return f"{times}after one call {in_words(first.steps)}, else {in_words(chain.steps)}"
        nodes += chain.nodes
    assert isinstance(first, Chain)
    return Chain(tuple(nodes), first.match, first.steps, first.rest)


def _chain(
    conv: fx.Node, root: nn.Module, patterns: Sequence[Pattern], modules_only: bool
) -> Chain | str:
    if conv.kwargs.keys() - {"output_size"}:
        return f"called with {', '.join(conv.kwargs)}= by name"
    if len(conv.users) != 1:
        return f"its result is used {len(conv.users)} times"
    read = list(_following(conv, root, modules_only))
    steps = tuple(step for _, own in read for step in own)
    if not steps:
        last = read[-1][0] if read else conv
        if len(last.users) != 1:
            return f"its result is used {len(last.users)} times"
        (user,) = last.users
        return f"followed by {_name_of(user, root)}, nothing pointwise that is known"
    ends: dict[int, int] = {}
    end = 0
    for index, (_, own) in enumerate(read, start=1):
        end += len(own)
        if own:
            ends[end] = index
    match = longest(steps, ends, patterns)
    if match is None:
        return f"no kernel for {in_words(steps)}"
    nodes = tuple(node for node, own in read[: ends[match.count]] if own)
    return Chain(nodes, match, steps[: match.count], steps[match.count :])


def _following(
    conv: fx.Node, root: nn.Module, modules_only: bool
) -> Iterator[tuple[fx.Node, Steps]]:
    """The pointwise nodes one after another, each the only one that uses the one before."""
    node = conv
    while len(node.users) == 1:
        (user,) = node.users
        if modules_only and user.op != "call_module":
            return
        steps = _steps_of(user, node, root)
        if steps is None:
            return
        yield user, steps
        node = user


def _steps_of(node: fx.Node, x: fx.Node, root: nn.Module) -> Steps | None:
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        plain = node.args == (x,) and not node.kwargs and not has_hooks(module)
        if not plain or "forward" in vars(module):
            return None
        return read_module(module, drops=root.training or module.training)
    if node.op == "call_function":
        return read_function(node.target, node.args, node.kwargs, x)
    if node.op == "call_method" and node.args and node.args[0] is x:
        return read_method(str(node.target), node.args[1:], node.kwargs)
    return None


def _name_of(node: fx.Node, root: nn.Module) -> str:
    if node.op == "output":
        return "the end of the code that was traced"
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return type(module).__name__ + (" with hooks" if has_hooks(module) else "")
    target: Any = node.target
    return target if isinstance(target, str) else getattr(target, "__name__", repr(target))
