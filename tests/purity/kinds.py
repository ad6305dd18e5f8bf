"""What is known of types from annotations: enough to tell a set from what has an order, wherever it is kept."""

from __future__ import annotations

import ast
from typing import NamedTuple


class Kind(NamedTuple):
    """A type as far as it matters: ``set``, ``dict``, ``seq``, ``tuple``, ``keys``, ``?``, or the name of a class."""

    name: str
    of: tuple[Kind, ...] = ()


UNKNOWN = Kind("?")
SETS = {"set", "frozenset", "Set", "AbstractSet", "MutableSet", "FrozenSet"}
DICTS = {"dict", "Dict", "Mapping", "MutableMapping", "defaultdict", "OrderedDict", "Counter"}
SEQUENCES = {
    "list",
    "List",
    "Sequence",
    "MutableSequence",
    "Iterable",
    "Iterator",
    "Collection",
    "Generator",
    "deque",
    "Reversible",
}
WRAPPERS = {"Annotated", "Final", "ClassVar", "Required", "NotRequired", "Optional"}


def is_set(kind: Kind) -> bool:
    """Whether a value of the kind is walked in no fixed order."""
    return kind.name == "set"


def part(kind: Kind, place: int) -> Kind:
    """Return one of the types that a type is made of."""
    return kind.of[place] if place < len(kind.of) else UNKNOWN


def name_of(node: ast.AST) -> str:
    """Return the last word of a dotted name."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def merged(one: Kind, other: Kind) -> Kind:
    """Return what a value may be that is one or the other: a set, if it may be one."""
    if one == other or other == UNKNOWN:
        return one
    if one == UNKNOWN:
        return other
    if is_set(one) or is_set(other):
        return one if is_set(one) else other
    if one.name == other.name and len(one.of) == len(other.of):
        return Kind(one.name, tuple(merged(a, b) for a, b in zip(one.of, other.of, strict=True)))
    return one


class Known:
    """What the files of the tree declare: aliases, classes with their attributes and methods, functions, constants."""

    def __init__(self) -> None:
        self.aliases: dict[str, ast.expr] = {}
        self.bases: dict[str, list[str]] = {}
        self.attributes: dict[str, dict[str, Kind]] = {}
        self.methods: dict[str, dict[str, Kind]] = {}
        self.functions: dict[str, Kind] = {}
        self.constants: dict[str, Kind] = {}

    def annotation(self, node: ast.expr | None, depth: int = 0) -> Kind:
        """Return the kind that an annotation names."""
        if node is None or depth > 20:
            return UNKNOWN
        match node:
            case ast.Constant(value=str() as text):
                try:
                    return self.annotation(ast.parse(text, mode="eval").body, depth + 1)
                except SyntaxError:
                    return UNKNOWN
            case ast.BinOp(op=ast.BitOr()):
                return merged(self.annotation(node.left, depth + 1), self.annotation(node.right, depth + 1))
            case ast.Subscript():
                name = name_of(node.value)
                inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
                if name in WRAPPERS:
                    return self.annotation(inner[0], depth + 1)
                parts = tuple(
                    self.annotation(part_, depth + 1) for part_ in inner if not isinstance(part_, ast.Constant)
                )
                if name in ("tuple", "Tuple"):
                    endless = isinstance(inner[-1], ast.Constant) and inner[-1].value is Ellipsis
                    return Kind("seq", parts[:1]) if endless else Kind("tuple", parts)
                return Kind(_plain(name), parts)
            case ast.Name() | ast.Attribute():
                name = name_of(node)
                if name in self.aliases:
                    return self.annotation(self.aliases[name], depth + 1)
                return Kind(_plain(name))
        return UNKNOWN

    def attribute(self, owner: Kind, name: str) -> Kind:
        """Return the kind of an attribute; of an owner that is not known, a set if any class has it so."""
        for place in self._line(owner.name):
            if name in self.attributes.get(place, {}):
                return self.attributes[place][name]
        if owner.name in self.attributes or owner.name in ("dict", "seq", "set", "tuple", "keys"):
            return UNKNOWN
        found = UNKNOWN
        for attributes in self.attributes.values():
            found = merged(found, attributes.get(name, UNKNOWN)) if is_set(attributes.get(name, UNKNOWN)) else found
        return found

    def method(self, owner: Kind, name: str) -> Kind:
        """Return what a method gives back."""
        for place in self._line(owner.name):
            if name in self.methods.get(place, {}):
                return self.methods[place][name]
        if owner != UNKNOWN:
            return UNKNOWN
        found = [methods[name] for methods in self.methods.values() if name in methods]
        return next((kind for kind in found if is_set(kind)), UNKNOWN)

    def _line(self, name: str) -> list[str]:
        found, waiting = [], [name]
        while waiting:
            one = waiting.pop(0)
            if one not in found:
                found.append(one)
                waiting += self.bases.get(one, [])
        return found

    def learn(self, tree: ast.Module) -> None:
        """Take in what a file declares."""
        for node in tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript() | ast.BinOp() as value):
                    self.aliases[name] = value
                case ast.AnnAssign(target=ast.Name(id=name)):
                    self.constants[name] = self.annotation(node.annotation)
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Set() | ast.SetComp()):
                    self.constants[name] = Kind("set")
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="set" | "frozenset"))):
                    self.constants[name] = Kind("set")
        for inner in ast.walk(tree):
            if isinstance(inner, ast.ClassDef):
                self._learn_class(inner)
            elif isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)) and inner in tree.body:
                self.functions[inner.name] = self.annotation(inner.returns)

    def _learn_class(self, node: ast.ClassDef) -> None:
        self.bases[node.name] = [name_of(base) for base in node.bases]
        attributes = self.attributes.setdefault(node.name, {})
        methods = self.methods.setdefault(node.name, {})
        for inner in node.body:
            match inner:
                case ast.AnnAssign(target=ast.Name(id=name)):
                    attributes[name] = self.annotation(inner.annotation)
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Set() | ast.SetComp()):
                    attributes[name] = Kind("set")
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    given = self.annotation(inner.returns)
                    if any(name_of(mark) in ("property", "cached_property") for mark in inner.decorator_list):
                        attributes[inner.name] = given
                    else:
                        methods[inner.name] = given
                    self._learn_self(inner, attributes)

    def _learn_self(self, function: ast.FunctionDef | ast.AsyncFunctionDef, attributes: dict[str, Kind]) -> None:
        """Attributes that a method gives its object: annotated, or taken over from an argument."""
        arguments = {
            one.arg: self.annotation(one.annotation) for one in [*function.args.args, *function.args.kwonlyargs]
        }
        for node in ast.walk(function):
            match node:
                case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name)):
                    attributes[name] = self.annotation(node.annotation)
                case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)], value=value) if (
                    name not in attributes
                ):
                    match value:
                        case ast.Set() | ast.SetComp() | ast.Call(func=ast.Name(id="set" | "frozenset")):
                            attributes[name] = Kind("set")
                        case ast.Name(id=given) if given in arguments:
                            attributes[name] = arguments[given]


def _plain(name: str) -> str:
    return (
        "set"
        if name in SETS
        else "dict"
        if name in DICTS
        else "seq"
        if name in SEQUENCES
        else "keys"
        if name == "KeysView"
        else name or "?"
    )
