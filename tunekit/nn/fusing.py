"""Find convolutions that end in what a kernel computes, and put fused ones in their place.

Where only modules follow a convolution they are taken out of the model, `nn.Identity` in their
place, and the model stays of its class. Where code does (`F.mish`, `x + 0.5`, one activation
module called in several places) a graph of torch.fx takes the place of the model's code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import fx, nn

from tunekit.errors import KernelError
from tunekit.nn.chains import Chain, Findings, chains_in, is_convolution, unsuited
from tunekit.nn.conv import fused_conv
from tunekit.nn.fusion import Fusion, Left, Replaced
from tunekit.nn.patterns import PATTERNS, Pattern
from tunekit.nn.steps import in_words
from tunekit.nn.tracing import Traced, UntraceableError, shared_copy, trace

_OF_STATE = ("_save_to_state_dict", "_load_from_state_dict", "state_dict", "load_state_dict")
_STATE_HOOKS = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def fuse(model: nn.Module, patterns: Sequence[Pattern] = ()) -> Fusion:
    """A model whose convolutions include the pointwise steps that follow them.

    Args:
        model: is not changed; the result shares its parameters and buffers, and has its state
            dict. Its training mode decides whether dropout may lie between a convolution and
            what is fused with it.
        patterns: of kernels of your own; they go before those that ship.

    Returns:
        The new model, and what became of each convolution and why. Of the steps that follow one
        the most are fused that a kernel computes.

    Raises:
        KernelError: `model` is no module, or cannot be copied; a pattern is none.
    """
    if not isinstance(model, nn.Module):
        raise KernelError(f"fuse: expected a module, got {type(model).__name__}")
    for pattern in patterns:
        if not isinstance(pattern, Pattern):
            raise KernelError(f"fuse: expected patterns, got {type(pattern).__name__}")
    copied = shared_copy(model)
    fusing = _Fusing((*patterns, *PATTERNS), _places(copied))
    made = fusing.fused(copied, "", "")
    order = {name: index for index, name in enumerate(_convolutions(model))}
    return Fusion(
        made,
        tuple(sorted(fusing.replaced, key=lambda row: order[row.name])),
        tuple(sorted(fusing.left, key=lambda row: order[row.name])),
        tuple(fusing.notes),
    )


@dataclass
class _Fusing:
    """One call of `fuse`: what is looked for, and what was done so far."""

    patterns: Sequence[Pattern]
    places: Mapping[int, Sequence[str]]
    replaced: list[Replaced] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fused(self, root: nn.Module, prefix: str, bound: str) -> nn.Module:
        """A module of the copied model, changed; or a graph in its place.

        Args:
            root: the module.
            prefix: its qualified name and a dot, empty for the model itself.
            bound: why no graph can take its place; empty if one may.
        """
        convolutions = _convolutions(root)
        if not convolutions:
            return root
        if is_convolution(root):
            reason = unsuited(root) or "the code that calls it is no graph"
            self._leave(prefix.rstrip("."), root, reason)
            return root
        try:
            traced = trace(root)
        except UntraceableError as error:
            if not isinstance(root, nn.ModuleList | nn.ModuleDict):
                who = f"{prefix.rstrip('.')} ({type(root).__name__})" if prefix else "the model"
                self.notes.append(f"{who} is no graph, so only its modules were fused: {error}")
            for name, child in root.named_children():
                self.fused(child, f"{prefix}{name}.", "what calls it is no graph")
            return root
        own = [name for name in convolutions if not _is_under(name, traced.leaves)]
        made = self._apply(root, prefix, own, traced, bound or traced.bound or _state_of(root))
        for name in sorted(traced.leaves):
            self.fused(root.get_submodule(name), f"{prefix}{name}.", "its class is kept")
        return made

    def _apply(
        self, root: nn.Module, prefix: str, names: Sequence[str], traced: Traced, bound: str
    ) -> nn.Module:
        graph = traced.graphs[0]
        found = chains_in(graph, root, names, self.patterns)
        self._keep_apart(root, found)
        chains = {name: each for name, each in found.items() if isinstance(each, Chain)}
        needs_graph = len(_removable(graph, chains)) < len(chains)
        if needs_graph and not bound:
            made = _as_graph(root, graph)
            if made is not None:
                self._replace(root, prefix, found)
                _take_out(made, chains)
                return made
            bound = "its state dict would not be the same"
        if needs_graph or traced.bound:
            found = self._of_modules(root, traced, found, bound)
            chains = {name: each for name, each in found.items() if isinstance(each, Chain)}
        removed = {str(node.target) for chain in chains.values() for node in chain.nodes}
        gone = {id(root.get_submodule(name)) for name in removed}
        self._replace(root, prefix, found)
        for holder in _looked_into(root, traced.leaves):
            for name, module in holder._modules.items():
                if id(module) in gone:
                    holder._modules[name] = nn.Identity().train(holder.training)
        return root

    def _of_modules(
        self, root: nn.Module, traced: Traced, wanted: Findings, bound: str
    ) -> Findings:
        """The findings that leave the code as it is, in either mode."""
        names = [name for name, each in wanted.items() if isinstance(each, Chain)]
        both = [
            chains_in(graph, root, names, self.patterns, modules_only=True)
            for graph in traced.graphs
        ]
        while True:
            kept = {name for name in names if _is_alike(*(found[name] for found in both))}
            for graph, found in zip(traced.graphs, both, strict=True):
                chains = {n: each for n in kept if isinstance(each := found[n], Chain)}
                kept &= _removable(graph, chains)
            if kept == set(names):
                break
            names = [name for name in names if name in kept]
        return {
            name: both[0][name] if name in names else _needs_graph(each, bound)
            for name, each in wanted.items()
        }

    def _keep_apart(self, root: nn.Module, found: Findings) -> None:
        """Leave convolutions that are in several places."""
        for name, each in found.items():
            places = self.places[id(root.get_submodule(name))]
            if isinstance(each, Chain) and len(places) > 1:
                found[name] = f"it is in several places: {', '.join(places)}"

    def _replace(self, root: nn.Module, prefix: str, found: Findings) -> None:
        """Put the fused convolutions in their places, and say what became of each."""
        for name, each in found.items():
            conv = root.get_submodule(name)
            if isinstance(each, str):
                self._leave(prefix + name, conv, each)
                continue
            match = each.match
            made = fused_conv(conv, match.kernel, match.scalars)
            holder, _, own = name.rpartition(".")
            root.get_submodule(holder)._modules[own] = made
            kernel, scalars = match.kernel.name, match.scalars
            kind = type(conv).__name__
            self.replaced.append(
                Replaced(prefix + name, kind, each.steps, kernel, scalars, each.rest)
            )

    def _leave(self, name: str, conv: nn.Module, reason: str) -> None:
        self.left.append(Left(name, type(conv).__name__, reason))


def _convolutions(root: nn.Module) -> list[str]:
    return [name for name, module in root.named_modules() if is_convolution(module)]


def _places(model: nn.Module) -> dict[int, list[str]]:
    """Under which names each module is held, by its id."""
    found: dict[int, list[str]] = {id(model): [""]}
    for prefix, holder in model.named_modules():
        for name, module in holder._modules.items():
            if module is not None:
                place = f"{prefix}.{name}" if prefix else name
                found.setdefault(id(module), []).append(place)
    return found


def _is_under(name: str, leaves: frozenset[str]) -> bool:
    return any(name == leaf or name.startswith(f"{leaf}.") for leaf in leaves)


def _looked_into(root: nn.Module, leaves: frozenset[str], prefix: str = "") -> Iterator[nn.Module]:
    """The modules whose code the graphs hold, the root among them."""
    yield root
    for name, child in root.named_children():
        if prefix + name not in leaves:
            yield from _looked_into(child, leaves, f"{prefix}{name}.")


def _removable(graph: fx.Graph, chains: Mapping[str, Chain]) -> set[str]:
    """Those chains whose modules, and no others' calls, can be taken out of the model."""
    going = {node for chain in chains.values() for node in chain.nodes}
    staying = {node.target for node in graph.nodes if node not in going}
    return {
        name
        for name, chain in chains.items()
        if all(n.op == "call_module" and n.target not in staying for n in chain.nodes)
    }


def _is_alike(one: Chain | str, other: Chain | str) -> bool:
    return isinstance(one, Chain) and isinstance(other, Chain) and one.is_like(other)


def _needs_graph(each: Chain | str, bound: str) -> str:
    if isinstance(each, str):
        return each
    what = in_words(each.steps)
    return f"to take {what} out of the code, a graph would have to take its place, but {bound}"


def _state_of(root: nn.Module) -> str:
    """Why a graph's state dict would not be that of the module; empty if it is."""
    kind = type(root)
    if any(getattr(kind, name) is not getattr(nn.Module, name) for name in _OF_STATE):
        return "it has a state dict of its own"
    if any(getattr(root, name, None) for name in _STATE_HOOKS):
        return "its state dict has hooks"
    if root._non_persistent_buffers_set:  # a copy of a graph module forgets which those are
        return "it has buffers of its own that are not saved"
    return ""


def _as_graph(root: nn.Module, graph: fx.Graph) -> fx.GraphModule | None:
    """A module with the graph for its code and all that `root` holds; None if it would differ."""
    for node in graph.nodes:
        if isinstance(node.type, str):  # annotations of a later Python's kind cannot be pickled
            node.type = None
    made = fx.GraphModule(root, graph, class_name=type(root).__name__)
    for name in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
        made.__dict__[name] = root.__dict__[name]
    return made if list(made.state_dict()) == list(root.state_dict()) else None


def _take_out(made: fx.GraphModule, chains: Mapping[str, Chain]) -> None:
    for chain in chains.values():
        for node in chain.nodes:
            (x,) = node.all_input_nodes
            node.replace_all_uses_with(x)
            made.graph.erase_node(node)
    made.graph.lint()
    made.recompile()
