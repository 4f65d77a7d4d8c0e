"""The part of a kernel that decides where it stores: without what only decides the values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tunekit.rules.trace import ACCESSES
from tunekit.rules.ttir import Block, Function, Op, Value

_ENDS = ("scf.yield", "scf.condition", "tt.return", "cf.br", "cf.cond_br")


def stores_only(function: Function) -> Function:
    """The same kernel with nothing in it but its stores, and what their addresses depend on.

    The loop of a matrix product, of which only the sum is stored, is not in it.
    """
    needed = _Needed(function)
    return replace(function, blocks=_kept(function.blocks, needed.ops))


def _kept(blocks: Sequence[Block], ops: set[Op]) -> list[Block]:
    kept = []
    for block in blocks:
        inside = [
            replace(op, regions=[_kept(region, ops) for region in op.regions]) if op.regions else op
            for op in block.ops
            if op in ops or op.name in _ENDS
        ]
        kept.append(Block(block.label, block.arguments, inside))
    return kept


class _Needed:
    """Operations that stores depend on."""

    def __init__(self, function: Function) -> None:
        self.ops: set[Op] = set()
        self._around: dict[Op, Op] = {}
        self._owner: dict[Value, Op] = {}
        self._learn(function.blocks, None)
        for op in function.ops():
            if ACCESSES.get(op.name) == "store":
                self._need(op, addressing=True)
            elif op.name.startswith("cf."):
                self._need(op)

    def _learn(self, blocks: Sequence[Block], around: Op | None) -> None:
        for block in blocks:
            for op in block.ops:
                if around is not None:
                    self._around[op] = around
                for region in op.regions:
                    for inner in region:
                        self._owner.update(dict.fromkeys(inner.arguments, op))
                    self._learn(region, op)

    def _need(self, op: Op, *, addressing: bool = False) -> None:
        """An operation, what it works on, and what it is inside of."""
        waiting: list[tuple[Op, bool]] = [(op, addressing)]
        while waiting:
            each, only_where = waiting.pop()
            if each in self.ops:
                continue
            self.ops.add(each)
            values = _addressing(each) if only_where else list(each.operands)
            for region in each.regions:
                for block in region:
                    values += [v for end in block.ops if end.name in _ENDS for v in end.operands]
            found = [value.op or self._owner.get(value) for value in values if value is not None]
            found.append(self._around.get(each))
            waiting += [(needed, False) for needed in found if needed is not None]


def _addressing(store: Op) -> list[Value | None]:
    """What says where it stores: all but the value."""
    if store.name == "tt.store":
        return [store.operands[0], *store.operands[2:]]
    return list(store.operands[:-1])
