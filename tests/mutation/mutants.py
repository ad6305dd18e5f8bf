"""What can be written otherwise in a module: mutmut's operators over its syntax tree, each as a replacement of a piece
of text.

One more of our own: a ternary that always takes one of its arms.

Nothing is mutated in docstrings, annotations, imports, ``__slots__``, ``__all__``, and in calls of ``len`` and
``isinstance``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, WhitespaceInclusivePositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).resolve().parents[2]
NEVER_NAMED = {"__slots__", "__all__"}
NEVER_CALLED = {"len", "isinstance"}


def _one_arm(node: cst.IfExp) -> Iterator[cst.IfExp]:
    for always in ("True", "False"):
        yield node.with_changes(test=cst.Name(always))


# Versions of mutmut from 3.8 on force ternaries by an operator of their own.
OPERATORS = [
    *((kind, operator) for kind, operator in mutation_operators if kind is not cst.IfExp),
    (cst.IfExp, _one_arm),
]


class Mutant(NamedTuple):
    """One thing written otherwise."""

    module: str
    number: int
    line: int
    first: int
    last: int
    """Lines of the statement, or of the head of a compound one."""
    function: str
    """The innermost function whose body holds it; empty where importing the module executes it."""
    start: int
    end: int
    text: str
    """What stands in place of the characters from start to end."""

    def apply(self, source: str) -> str:
        """Return the source of the mutated module."""
        return source[: self.start] + self.text + source[self.end :]

    def diff(self, source: str) -> str:
        """Return the lines that differ."""
        lines = difflib.unified_diff(source.splitlines(), self.apply(source).splitlines(), n=0, lineterm="")
        return "\n".join(line for line in list(lines)[2:] if not line.startswith("@@"))


def path_of(module: str) -> Path:
    """Return the file of a module of the project."""
    return ROOT / (module.replace(".", "/") + ".py")


def mutants_of(module: str) -> list[Mutant]:
    """Return every mutant of a module, in order of place."""
    return list(_made(module, path_of(module).read_text()))


def _made(module: str, source: str) -> list[Mutant]:
    wrapper = MetadataWrapper(cst.parse_module(source))
    visitor = _Visitor(module, source, wrapper)
    wrapper.visit(visitor)
    found = sorted(set(visitor.found))
    return [Mutant(module, n, *row) for n, row in enumerate(found)]


class _Visitor(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (WhitespaceInclusivePositionProvider, ParentNodeProvider)

    def __init__(self, module: str, source: str, wrapper: MetadataWrapper) -> None:
        super().__init__()
        self.module = module
        self.source = source
        self.tree = wrapper.module
        self.found: list[tuple[int, int, int, str, int, int, str]] = []
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Import | cst.ImportFrom):
            return False
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value in NEVER_CALLED:
            return False
        if isinstance(node, cst.Assign) and any(
            isinstance(t.target, cst.Name) and t.target.value in NEVER_NAMED for t in node.targets
        ):
            return False
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                for changed in operator(node):
                    self._add(node, changed)
        return True

    def _add(self, node: cst.CSTNode, changed: cst.CSTNode) -> None:
        start, end = self._span(node)
        text = self.tree.code_for_node(changed)
        if self.source[start:end] != self.tree.code_for_node(node):
            # Its text depends on what is around it (indentation): the whole module is written anew.
            start, end, text = 0, len(self.source), self.tree.deep_replace(node, changed).code
        if self.source[start:end] != text:
            line = self.get_metadata(WhitespaceInclusivePositionProvider, node).start.line
            self.found.append((line, *self._place(node, line), start, end, text))

    def _offset(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column

    def _span(self, node: cst.CSTNode) -> tuple[int, int]:
        span = self.get_metadata(WhitespaceInclusivePositionProvider, node)
        return self._offset(span.start.line, span.start.column), self._offset(span.end.line, span.end.column)

    def _place(self, node: cst.CSTNode, line: int) -> tuple[int, int, str]:
        """Return the lines of the statement around a node, and the function in whose body it stands."""
        first = last = 0
        function: list[str] = []
        child, parent = node, self.get_metadata(ParentNodeProvider, node, None)
        while parent is not None:
            if not first:
                if isinstance(child, cst.SimpleStatementLine):
                    span = self.get_metadata(WhitespaceInclusivePositionProvider, child)
                    first, last = span.start.line, span.end.line
                elif isinstance(child, cst.BaseCompoundStatement | cst.MatchCase):
                    body = child.cases[0] if isinstance(child, cst.Match) else child.body
                    first = self.get_metadata(WhitespaceInclusivePositionProvider, child).start.line
                    last = max(line, self.get_metadata(WhitespaceInclusivePositionProvider, body).start.line)
            if (isinstance(parent, cst.FunctionDef) and (child is parent.body or function)) or (
                isinstance(parent, cst.ClassDef) and function
            ):
                function.append(parent.name.value)
            child, parent = parent, self.get_metadata(ParentNodeProvider, parent, None)
        return first or line, last or line, ".".join(reversed(function))
