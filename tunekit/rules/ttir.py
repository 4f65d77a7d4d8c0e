"""Read Triton's intermediate representation (TTIR) as text: operations, values, places.

Triton prints MLIR: an operation a line, regions in braces, every value assigned once. What is read
is what following values needs: names, operands, types as text, and where in the source it is from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tunekit.rules.places import Place, Places

_NAME = r"%[\w$.\-]+"
_OPERAND = re.compile(rf"{_NAME}(?:#\d+)?")
_RESULTS = re.compile(rf"^({_NAME}(?::\d+)?(?:, {_NAME}(?::\d+)?)*) = (.*)$", re.DOTALL)
_PARAMETER = re.compile(rf"({_NAME}): (.+?)(?: \{{[^}}]*\}})?(?= loc\(|, %|\)?$)")
_LABEL = re.compile(r' loc\("([^"]*)"')
_BLOCK = re.compile(r"^(\^\w+)(?:\((.*)\))?:")
_FOR = re.compile(
    rf"^(?:unsigned )?({_NAME}) = ({_NAME}(?:#\d+)?) to ({_NAME}(?:#\d+)?) step ({_NAME}(?:#\d+)?)"
    r"(?: iter_args\((.*?)\))?"
)
_OPERATION = re.compile(r"[\w.$-]*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_SHAPED = re.compile(r"tensor<((?:\d+x)*)([^<>]*(?:<[^<>]*>)?)>")
_INTEGER = re.compile(r"^[iu](\d+)$|^index$")
_FLOAT_BYTES = {"f64": 8, "f32": 4, "tf32": 4, "bf16": 2, "f16": 2}


class UnreadableError(ValueError):
    """The text is no TTIR as it is known here."""


@dataclass(frozen=True, slots=True)
class Type:
    """A type: `tensor<16x64x!tt.ptr<f32>>` has the shape (16, 64), the element `!tt.ptr<f32>`."""

    shape: tuple[int, ...]
    element: str

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def is_integer(self) -> bool:
        """Whether its elements are integers, booleans among them."""
        return _INTEGER.match(self.element) is not None

    @property
    def is_pointer(self) -> bool:
        """Whether its elements are pointers."""
        return self.element.startswith("!tt.ptr")

    @property
    def pointee_bytes(self) -> int:
        """Bytes of what a pointer points to."""
        inner = self.element.removeprefix("!tt.ptr<").partition(">")[0].partition(",")[0]
        return element_bytes(inner)


def element_bytes(element: str) -> int:
    """Bytes of an element in memory: `i1` takes one."""
    if element in _FLOAT_BYTES:
        return _FLOAT_BYTES[element]
    if element.startswith("f8"):
        return 1
    if (match := re.match(r"[iu](\d+)$", element)) is not None:
        return max(int(match[1]) // 8, 1)
    return 8


def parse_type(text: str) -> Type:
    """Read one type."""
    text = text.strip()
    if (match := _SHAPED.match(text)) is not None:
        return Type(tuple(int(size) for size in match[1].split("x")[:-1]), match[2])
    return Type((), text)


def _types_in(text: str) -> list[str]:
    """Types of a list, split at commas that are in no bracket."""
    found, depth, current = [], 0, ""
    for char in text:
        depth += (char in "<(") - (char in ">)")
        if char == "," and depth == 0:
            found.append(current)
            current = ""
        else:
            current += char
    found.append(current)
    return [each.strip() for each in found if each.strip()]


@dataclass(eq=False, slots=True)
class Value:
    """One value: the result of an operation, or an argument of a block (`op` is None)."""

    name: str
    type: Type
    op: Op | None = None


@dataclass(eq=False, slots=True)
class Block:
    """A straight run of operations; its arguments are filled in by whoever enters it."""

    label: str
    arguments: list[Value] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Op:
    """One operation.

    Attributes:
        name: `tt.load`, `arith.addi`, …
        text: what follows the name, up to the types.
        types: the types, as text.
        operands: in the order written; None where the value is not known here.
        regions: each a list of blocks.
    """

    name: str
    text: str
    types: str
    operands: list[Value | None]
    place: Place
    results: list[Value] = field(default_factory=list)
    regions: list[list[Block]] = field(default_factory=list)

    def attribute(self, name: str) -> int | None:
        """An integer attribute: 1024 of `{end = 1024 : i32}`."""
        match = re.search(rf"\b{name} = (-?\d+)", self.text)
        return None if match is None else int(match[1])

    @property
    def result_type(self) -> Type:
        """Of the first result."""
        return self.results[0].type if self.results else Type((), "none")

    @property
    def width(self) -> int:
        """Elements it is computed for."""
        if self.results:
            return self.results[0].type.numel
        return max((each.type.numel for each in self.operands if each is not None), default=1)


@dataclass(eq=False, slots=True)
class Function:
    """The kernel: its parameters and its blocks.

    Attributes:
        labels: what the source calls each parameter; those of one argument have one name.
    """

    name: str
    parameters: list[Value]
    labels: list[str]
    blocks: list[Block]

    def ops(self) -> Iterator[Op]:
        """Every operation, those in regions too, in the order written."""
        yield from ops_in(self.blocks)


def ops_in(blocks: Sequence[Block]) -> Iterator[Op]:
    """Every operation of some blocks, those in regions too, in the order written."""
    for block in blocks:
        for op in block.ops:
            yield op
            for region in op.regions:
                yield from ops_in(region)


def parse_ttir(text: str) -> Function:
    """The kernel in a TTIR module.

    Raises:
        UnreadableError: there is none, or its braces do not match.
    """
    lines = [line.strip() for line in text.splitlines()]
    reader = _Reader([line for line in lines if line and line[0] != "#"], Places.of(lines))
    return reader.function()


class _Reader:
    """Reads lines from the first to the last; scopes say which value a name is."""

    def __init__(self, lines: list[str], places: Places) -> None:
        self._lines, self._places, self._at = lines, places, 0
        self._scopes: list[dict[str, Value]] = []

    def function(self) -> Function:
        for number, line in enumerate(self._lines):
            if line.startswith("tt.func public"):
                self._at = number + 1
                head = line
                break
        else:
            raise UnreadableError("no kernel in the compiler's TTIR")
        name = head.partition("@")[2].partition("(")[0]
        parameters = _parameters(head.partition("(")[2])
        labels = _LABEL.findall(head)
        if len(labels) != len(parameters):
            labels = [each.name.removeprefix("%") for each in parameters]
        self._scopes.append({each.name: each for each in parameters})
        blocks, _ = self._region()
        return Function(name, parameters, labels, blocks)

    def _region(self, arguments: Sequence[Value] = ()) -> tuple[list[Block], str]:
        """Blocks up to the closing brace, and the line that it is in."""
        self._scopes.append({each.name: each for each in arguments})
        blocks = [Block("", list(arguments))]
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if line.startswith("}"):
                self._scopes.pop()
                return [each for each in blocks if each.ops or each is blocks[-1]], line
            if (match := _BLOCK.match(line)) is not None:
                block = Block(match[1], _parameters(match[2] or ""))
                self._scopes[-1].update({each.name: each for each in block.arguments})
                blocks.append(block)
            else:
                blocks[-1].ops.append(self._op(line))
        raise UnreadableError("the compiler's TTIR ends within a block")

    def _op(self, line: str) -> Op:
        opens = line.endswith("{")
        head = line[:-1].rstrip().removesuffix("(") if opens else line
        op = self._read(head)
        arguments = _region_arguments(op)
        while opens:
            blocks, closing = self._region(arguments)
            op.regions.append(blocks)
            opens = closing.endswith("{")
            arguments = []
            if not opens:
                tail, place = self._split_place(closing)
                op.place = place
                if not op.types and " : " in tail:
                    op.types = tail.rpartition(" : ")[2]
        return self._with_results(op, line)

    def _read(self, text: str) -> Op:
        text, place = self._split_place(text)
        match = _RESULTS.match(text)
        body = match[2] if match else text
        if body.startswith('"'):
            name, _, body = body[1:].partition('"')
        else:
            match = _OPERATION.match(body)
            name = match[0] if match else ""
            body = body[len(name) :].strip()
        body, types = _split_types(name, body)
        operands = [self._value(each) for each in _OPERAND.findall(_operand_text(name, body))]
        return Op(name, body, types, operands, place)

    def _with_results(self, op: Op, line: str) -> Op:
        match = _RESULTS.match(line)
        if match is None:
            return op
        named: list[tuple[str, int]] = []
        for each in match[1].split(", "):
            name, _, count = each.partition(":")
            named.append((name, int(count or 1)))
        types = _result_types(op, sum(count for _, count in named))
        position = 0
        for name, count in named:
            for index in range(count):
                value = Value(name if count == 1 else f"{name}#{index}", types[position], op)
                op.results.append(value)
                self._scopes[-1][value.name] = value
                position += 1
        return op

    def _value(self, name: str) -> Value | None:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return None

    def _split_place(self, text: str) -> tuple[str, Place]:
        cut = text.rfind(" loc(")
        if cut < 0:
            return text, Place(())
        return text[:cut], self._places.read(text[cut + 5 : -1])


def _parameters(text: str) -> list[Value]:
    return [Value(name, parse_type(type_)) for name, type_ in _PARAMETER.findall(text)]


def _split_types(name: str, body: str) -> tuple[str, str]:
    """What an operation is about, and its types."""
    if name.startswith("cf."):
        return body, ""  # types stand with each successor
    if name == "scf.if":
        head, _, types = body.partition(" -> ")
        return head, types
    if name == "scf.for":
        head, _, types = body.partition(" -> ")
        return head, types.rpartition(" : ")[0].strip()
    if name == "scf.while":
        head, _, types = f" {body}".partition(" : ")
        return head.strip(), types
    head, colon, types = f" {body}".rpartition(" : ")
    if not colon or "}" in types:
        return body, ""
    return head.strip(), types


def _operand_text(name: str, body: str) -> str:
    """The part of an operation that names operands, in their order."""
    if name == "scf.for" and (match := _FOR.match(body)) is not None:
        inits = re.findall(rf"= ({_NAME}(?:#\d+)?)", match[5] or "")
        return " ".join([match[2], match[3], match[4], *inits])
    if name == "scf.while":
        return " ".join(re.findall(rf"= ({_NAME}(?:#\d+)?)", body))
    return _QUOTED.sub("", body)


def _region_arguments(op: Op) -> list[Value]:
    """Arguments that an operation declares for its first region."""
    if op.name == "scf.for" and (match := _FOR.match(op.text)) is not None:
        start = op.operands[1]
        counter = Value(match[1], start.type if start is not None else Type((), "i32"))
        names = re.findall(rf"({_NAME}) = ", match[5] or "")
        types = map(parse_type, _types_in(op.types.strip("() ")))
        return [counter, *(Value(*each) for each in zip(names, types, strict=True))]
    if op.name == "scf.while":
        names = re.findall(rf"({_NAME}) = ", op.text)
        types = map(parse_type, _types_in(op.types.partition(" -> ")[0].strip("() ")))
        return [Value(*each) for each in zip(names, types, strict=True)]
    return []


def _result_types(op: Op, count: int) -> list[Type]:
    """Of the results of an operation; MLIR writes them in several ways."""
    types = op.types
    if op.name not in ("scf.if", "scf.for") and " -> " in types:
        types = types.rpartition(" -> ")[2]
    if types.startswith("("):
        types = types.strip("()")
    elif " to " in types:
        types = types.rpartition(" to ")[2]
    found = [parse_type(each) for each in _types_in(types)]
    if not found:  # `arith.constant true`
        return [Type((), "i1")] * count
    if op.name in ("arith.cmpi", "arith.cmpf"):
        return [Type(found[-1].shape, "i1")]
    if op.name == "tt.load":
        pointer = found[0]
        inner = pointer.element.removeprefix("!tt.ptr<").partition(">")[0].partition(",")[0]
        return [Type(pointer.shape, inner)]
    if op.name == "tt.addptr":
        return [found[0]]
    if len(found) < count:  # one type for all results, as of tt.split
        return [found[-1]] * count
    return found[-count:]
