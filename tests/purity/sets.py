"""Sets that are walked: their order depends on the seed of the process's hashes, so a fold that walks one gives other
bytes elsewhere.

Walking is harmless where the order cannot show: into ``sorted`` without a key, a set again, ``len``, ``sum``, ``any``,
``all``, and ``min`` and ``max`` without a key. Names are followed statement by statement, attributes by their
annotations (``kinds``).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from tests.purity.kinds import UNKNOWN, Kind, Known, is_set, merged, name_of, part

SET = Kind("set")
ORDERLESS = {"set", "frozenset", "len", "sum", "any", "all", "bool", "isinstance"}
"""Calls that give the same whatever the order."""
ORDERLESS_WITHOUT_KEY = {"sorted", "min", "max"}
SET_METHODS = {"union", "intersection", "difference", "symmetric_difference", "copy"}
TAKES_SETS = {*SET_METHODS, "update", "intersection_update", "difference_update", "symmetric_difference_update", "issubset", "issuperset", "isdisjoint", "add", "discard", "remove"}  # fmt: skip
SHOWS = {"str", "repr", "format", "print", "hash"}
WALKS = {
    "list", "tuple", "iter", "next", "enumerate", "zip", "map", "filter", "reversed", "dict", "deque", "Counter", "OrderedDict", "chain",
    "islice", "accumulate", "product", "permutations", "combinations", "groupby", "cycle", "bytes", "bytearray", "array",
}  # fmt: skip

Names = dict[str, Kind]


def walked_sets(tree: ast.Module, known: Known) -> list[tuple[int, str]]:
    """Return where a file walks a set: line and what it does."""
    checker = _Checker(known)
    names: Names = dict(known.constants)
    checker.block(tree.body, names)
    return sorted(checker.found)


class _Checker:
    def __init__(self, known: Known) -> None:
        self.known = known
        self.found: set[tuple[int, str]] = set()
        self.owner = UNKNOWN

    def say(self, node: ast.AST, text: str) -> None:
        self.found.add((getattr(node, "lineno", 0), text))

    # ---- what an expression is --------------------------------------------------------------------------------------

    def kind(self, node: ast.expr | None, names: Names) -> Kind:
        match node:
            case ast.Set() | ast.SetComp():
                return SET
            case ast.Name(id=name):
                return names.get(name, UNKNOWN)
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if self.owner != UNKNOWN and "self" in names:
                return self.known.attribute(self.owner, name)
            case ast.Attribute(value=value, attr=name):
                return self.known.attribute(self.kind(value, names), name)
            case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
                left, right = self.kind(node.left, names), self.kind(node.right, names)
                return SET if {left.name, right.name} & {"set", "keys"} else left
            case ast.BoolOp(values=values):
                return self._either([self.kind(value, names) for value in values])
            case ast.IfExp(body=body, orelse=other):
                return merged(self.kind(body, names), self.kind(other, names))
            case ast.NamedExpr(value=value) | ast.Await(value=value) | ast.Starred(value=value):
                return self.kind(value, names)
            case ast.Subscript(value=value, slice=place):
                return self._item(self.kind(value, names), place)
            case ast.Call():
                return self._called(node, names)
            case ast.Dict(values=values):
                return Kind("dict", (UNKNOWN, self._either([self.kind(value, names) for value in values])))
            case ast.DictComp(value=value):
                return Kind("dict", (UNKNOWN, self.kind(value, self._bound(node.generators, dict(names)))))
            case ast.List(elts=parts):
                return Kind("seq", (self._either([self.kind(one, names) for one in parts]),))
            case ast.Tuple(elts=parts):
                return Kind("tuple", tuple(self.kind(one, names) for one in parts))
            case ast.ListComp(elt=element) | ast.GeneratorExp(elt=element):
                return Kind("seq", (self.kind(element, self._bound(node.generators, dict(names))),))
        return UNKNOWN

    def _either(self, kinds: list[Kind]) -> Kind:
        found = UNKNOWN
        for one in kinds:
            found = merged(found, one)
        return found

    def _item(self, whole: Kind, place: ast.expr) -> Kind:
        if whole.name == "dict":
            return part(whole, 1)
        if whole.name == "seq":
            return whole if isinstance(place, ast.Slice) else part(whole, 0)
        if whole.name == "tuple":
            if isinstance(place, ast.Constant) and isinstance(place.value, int):
                return part(whole, place.value % max(1, len(whole.of)))
            return self._either(list(whole.of))
        return UNKNOWN

    def _called(self, node: ast.Call, names: Names) -> Kind:
        match node.func:
            case ast.Name(id="set" | "frozenset"):
                return SET
            case ast.Name(id="sorted" | "list" | "tuple" | "reversed" | "iter"):
                return Kind("seq", (self.element(self.kind(node.args[0], names)) if node.args else UNKNOWN,))
            case ast.Name(id="defaultdict"):
                return Kind(
                    "dict", (UNKNOWN, SET if node.args and name_of(node.args[0]) in ("set", "frozenset") else UNKNOWN)
                )
            case ast.Name(id="replace" | "deepcopy" | "copy") | ast.Attribute(attr="replace" | "deepcopy") if node.args:
                return self.kind(node.args[0], names)
            case ast.Name(id=name):
                if name in names:
                    return UNKNOWN
                return self.known.functions.get(name, Kind(name) if name in self.known.attributes else UNKNOWN)
            case ast.Attribute(value=value, attr=name):
                whole = self.owner if isinstance(value, ast.Name) and value.id == "self" else self.kind(value, names)
                if is_set(whole):
                    return SET if name in SET_METHODS else UNKNOWN
                if whole.name == "dict":
                    return {
                        "keys": Kind("keys", whole.of[:1]),
                        "values": Kind("seq", whole.of[1:2]),
                        "items": Kind("seq", (Kind("tuple", whole.of),)),
                        "copy": whole,
                    }.get(name, part(whole, 1) if name in ("get", "pop", "setdefault") else UNKNOWN)
                if whole.name == "seq":
                    return part(whole, 0) if name == "pop" else whole if name == "copy" else UNKNOWN
                return self.known.method(whole, name)
        return UNKNOWN

    def element(self, whole: Kind) -> Kind:
        """Return what walking something gives."""
        if whole.name in ("set", "seq", "dict", "keys"):
            return part(whole, 0)
        return self._either(list(whole.of)) if whole.name == "tuple" else UNKNOWN

    # ---- names ------------------------------------------------------------------------------------------------------

    def bind(self, target: ast.expr, kind: Kind, names: Names) -> None:
        match target:
            case ast.Name(id=name):
                names[name] = kind
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for place, one in enumerate(parts):
                    if isinstance(one, ast.Starred):
                        self.bind(one.value, Kind("seq", (self.element(kind),)), names)
                    else:
                        self.bind(one, part(kind, place) if kind.name == "tuple" else self.element(kind), names)

    def _bound(self, generators: list[ast.comprehension], names: Names) -> Names:
        for generator in generators:
            self.bind(generator.target, self._walked(generator.iter, names), names)
        return names

    def _walked(self, over: ast.expr, names: Names) -> Kind:
        """Return what a loop's name is bound to."""
        match over:
            case ast.Call(func=ast.Name(id="enumerate"), args=[first, *_]):
                return Kind("tuple", (UNKNOWN, self.element(self.kind(first, names))))
            case ast.Call(func=ast.Name(id="zip"), args=parts):
                return Kind("tuple", tuple(self.element(self.kind(one, names)) for one in parts))
        return self.element(self.kind(over, names))

    # ---- statements -------------------------------------------------------------------------------------------------

    def block(self, body: Iterable[ast.stmt], names: Names) -> None:
        for statement in body:
            self.statement(statement, names)

    def statement(self, node: ast.stmt, names: Names) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                inner = dict(names)
                arguments = node.args
                for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                    inner[one.arg] = self.known.annotation(one.annotation)
                for default in (*arguments.defaults, *(one for one in arguments.kw_defaults if one is not None)):
                    self.expression(default, names)
                if arguments.vararg is not None:
                    inner[arguments.vararg.arg] = Kind("seq", (self.known.annotation(arguments.vararg.annotation),))
                self.block(node.body, inner)
            case ast.ClassDef():
                before, self.owner = self.owner, Kind(node.name)
                self.block(node.body, dict(names))
                self.owner = before
            case ast.Assign(targets=targets, value=value):
                self.expression(value, names)
                kind = self.kind(value, names)
                for target in targets:
                    if isinstance(target, (ast.Tuple, ast.List)) and is_set(kind):
                        self.say(node, "a set is unpacked")
                    self.bind(target, kind, names)
                    self.expression(target, names)
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                if value is not None:
                    self.expression(value, names)
                self.bind(target, self.known.annotation(annotation), names)
            case ast.AugAssign(target=target, value=value):
                self.expression(value, names)
                if is_set(self.kind(value, names)) and isinstance(node.op, ast.Add):
                    self.say(node, "a set is added to a sequence")
                self.bind(target, merged(self.kind(target, names), self.kind(value, names)), names)
            case ast.For() | ast.AsyncFor():
                self.expression(node.iter, names)
                if is_set(self.kind(node.iter, names)):
                    self.say(node, "a loop over a set")
                # Twice: what the end of the body binds, its start may read.
                for _ in range(2):
                    self.bind(node.target, self._walked(node.iter, names), names)
                    self.block(node.body, names)
                self.block(node.orelse, names)
            case ast.While():
                for _ in range(2):
                    self.expression(node.test, names)
                    self.block(node.body, names)
                self.block(node.orelse, names)
            case ast.If():
                self.expression(node.test, names)
                self._branches([node.body, node.orelse], names)
            case ast.Match():
                self.expression(node.subject, names)
                for case in node.cases:
                    if case.guard is not None:
                        self.expression(case.guard, names)
                self._branches([case.body for case in node.cases], names)
            case ast.Try() | ast.TryStar():
                self.block(node.body, names)
                self._branches([handler.body for handler in node.handlers], names)
                self.block(node.orelse, names)
                self.block(node.finalbody, names)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self.expression(item.context_expr, names)
                self.block(node.body, names)
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.expression(child, names)

    def _branches(self, bodies: list[list[ast.stmt]], names: Names) -> None:
        ends = []
        for body in bodies:
            inner = dict(names)
            self.block(body, inner)
            ends.append(inner)
        for inner in ends:
            for name, kind in inner.items():
                if name not in names or kind != names[name]:
                    names[name] = merged(kind, names.get(name, UNKNOWN))

    # ---- expressions ------------------------------------------------------------------------------------------------

    def expression(self, node: ast.expr, names: Names, *, orderless: bool = False) -> None:
        """Look into an expression; ``orderless`` if its order cannot show."""
        match node:
            case ast.ListComp() | ast.GeneratorExp() | ast.SetComp() | ast.DictComp():
                inner = dict(names)
                for generator in node.generators:
                    self.expression(generator.iter, inner)
                    if is_set(self.kind(generator.iter, inner)) and not orderless and not isinstance(node, ast.SetComp):
                        self.say(node, "a comprehension over a set")
                    self.bind(generator.target, self._walked(generator.iter, inner), inner)
                    for test in generator.ifs:
                        self.expression(test, inner)
                for part_ in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
                    self.expression(part_, inner)
            case ast.Lambda():
                inner = dict(names)
                inner |= {argument.arg: UNKNOWN for argument in node.args.args}
                self.expression(node.body, inner)
            case ast.NamedExpr(target=target, value=value):
                self.expression(value, names)
                self.bind(target, self.kind(value, names), names)
            case ast.Call():
                self._call(node, names)
            case ast.Starred(value=value):
                self.expression(value, names)
                if is_set(self.kind(value, names)) and not orderless:
                    self.say(node, "a set is unpacked")
            case ast.Set(elts=parts):
                for one in parts:
                    self.expression(one, names, orderless=True)
            case ast.FormattedValue(value=value):
                self.expression(value, names)
                if is_set(self.kind(value, names)):
                    self.say(node, "a set is written out")
            case ast.YieldFrom(value=value):
                self.expression(value, names)
                if is_set(self.kind(value, names)):
                    self.say(node, "a set is yielded from")
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.expression(child, names)

    def _call(self, node: ast.Call, names: Names) -> None:
        name = name_of(node.func)
        keyed = any(keyword.arg == "key" for keyword in node.keywords)
        builtin = isinstance(node.func, ast.Name) and name not in names
        orderless = builtin and (name in ORDERLESS or (name in ORDERLESS_WITHOUT_KEY and not keyed))
        if isinstance(node.func, ast.Attribute):
            self.expression(node.func.value, names)
            whole = self.kind(node.func.value, names)
            if is_set(whole):
                orderless = name in TAKES_SETS
                if name in ("pop", "__iter__"):
                    self.say(node, f"{name}() of a set: which one, depends")
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.expression(argument, names, orderless=orderless)
            if orderless or not is_set(self.kind(argument, names)):
                continue
            if name in SHOWS:
                self.say(node, "a set is written out")
            elif keyed and name in ORDERLESS_WITHOUT_KEY:
                self.say(node, f"{name}() of a set by a key: among equals the set's order decides")
            elif name in WALKS or name in ("join", "extend", "fromkeys", "from_iterable", "writelines"):
                self.say(node, f"{name}() of a set")
