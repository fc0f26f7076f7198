"""The mutants of a source file: each is the file with one small fault.

Not mutated are annotations, decorators, docstrings, assertions (they narrow types) and sentences that people read.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

_OPPOSITES: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.Break: (ast.Continue,),
    ast.Continue: (ast.Break,),
}
_NOT_MUTATED = (ast.Assert, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal)
_NOT_MUTATED_FIELDS = {"annotation", "returns", "decorator_list", "bases", "type_params"}
_TYPE_CHECKER_CALLS = {"assert_never", "cast", "TypeVar", "ParamSpec", "NewType"}
_WORDS_OF_A_SENTENCE = 3
_STATEMENTS = (ast.stmt, ast.ExceptHandler, ast.match_case)


@dataclass(frozen=True)
class Mutant:
    """One fault. `function` is the qualified name of the function that has it; None: it acts when the file is imported.

    `digest` tells versions of the function apart, or of the statement where there is none, `number` the mutants of such
    a version, and `index` those of the file. `first_line` and `last_line` are those of its statement, without the
    statements in that.
    """

    path: str
    index: int
    digest: str
    number: int
    line: int
    first_line: int
    last_line: int
    function: str | None
    before: str
    after: str

    @property
    def key(self) -> tuple[str, str | None, str, int]:
        """What no other mutant has, of any version of its function."""
        return self.path, self.function, self.digest, self.number


@dataclass(frozen=True)
class _Place:
    """A node's place in the tree: the list or object that holds it, and where. `scope` is its function or statement."""

    holder: Any
    key: str | int
    function: str | None
    lines: tuple[int, int]
    scope: ast.AST

    def put(self, node: ast.AST) -> None:
        if isinstance(self.key, int):
            self.holder[self.key] = node
        else:
            setattr(self.holder, self.key, node)


def mutants_of(path: str, source: str) -> list[Mutant]:
    """Every mutant of a file."""
    digests: dict[ast.AST, str] = {}
    numbers: Counter[tuple[str | None, str]] = Counter()
    mutants = []
    for index, (place, node, replacement) in enumerate(_faults(ast.parse(source))):
        if place.scope not in digests:
            digests[place.scope] = hashlib.sha256(ast.unparse(place.scope).encode()).hexdigest()[:12]
        digest, function = digests[place.scope], place.function
        number = numbers[function, digest]
        numbers[function, digest] += 1
        texts = _text(node), _text(replacement)
        mutants.append(Mutant(path, index, digest, number, _line(node), *place.lines, function, *texts))
    return mutants


def compile_mutant(mutant: Mutant, root: Path) -> CodeType:
    """The code of the mutant's whole file."""
    file = root / mutant.path
    tree = ast.parse(file.read_text())
    for index, (place, node, replacement) in enumerate(_faults(tree)):
        if index == mutant.index:
            place.put(ast.copy_location(replacement, node) if hasattr(node, "lineno") else replacement)
            return compile(ast.fix_missing_locations(tree), str(file), "exec", dont_inherit=True)
    raise LookupError(mutant)


def _faults(tree: ast.Module) -> Iterator[tuple[_Place, ast.AST, ast.AST]]:
    """Each place, the node that is there, and the faulty node that may stand there instead."""
    for place, node in _walk(tree, None, "", tree, (0, 0)):
        for replacement in _replacements(node):
            yield place, node, replacement


def _walk(
    parent: ast.AST, function: str | None, prefix: str, scope: ast.AST, lines: tuple[int, int]
) -> Iterator[tuple[_Place, ast.AST]]:
    for field, value in ast.iter_fields(parent):
        if field in _NOT_MUTATED_FIELDS:
            continue
        inside, within = function, scope
        if field == "body" and isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef):
            inside, within = prefix.removesuffix(".<locals>."), parent
        children = list(enumerate(value)) if isinstance(value, list) else [(field, value)]
        holder = value if isinstance(value, list) else parent
        for key, child in children:
            if isinstance(child, ast.AST) and not _is_left_alone(child):
                is_statement = isinstance(child, _STATEMENTS)
                child_scope = child if is_statement and inside is None else within
                child_lines = _lines_of(child) if is_statement else lines
                yield _Place(holder, key, inside, child_lines, child_scope), child
                yield from _walk(child, inside, _prefix(child, prefix), child_scope, child_lines)


def _lines_of(statement: ast.AST) -> tuple[int, int]:
    """The first and last line of a statement, without the statements in it."""
    body = getattr(statement, "body", None)
    first = _line(statement)
    return first, max(first, body[0].lineno - 1) if body else getattr(statement, "end_lineno", first)


def _prefix(node: ast.AST, prefix: str) -> str:
    if isinstance(node, ast.ClassDef):
        return f"{prefix}{node.name}."
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return f"{prefix}{node.name}.<locals>."
    return prefix


def _is_left_alone(node: ast.AST) -> bool:
    match node:
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id=name))) | ast.Call(func=ast.Name(id=name)):
            return name in _TYPE_CHECKER_CALLS
        case ast.Raise(exc=ast.Name(id="NotImplementedError")):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case _:
            return isinstance(node, _NOT_MUTATED)


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Constant():
            yield from _other_constants(node.value)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Compare() | ast.BoolOp() | ast.BinOp() | ast.AugAssign() | ast.Break() | ast.Continue():
            yield from _other_operators(node)
        case ast.Return(value=ast.expr()) if not _is_none(node.value):
            yield _with(node, value=ast.Constant(value=None))
        case ast.Raise() | ast.Expr(value=ast.Call() | ast.Await()) | ast.Delete():
            yield ast.Pass()
        case ast.Call(keywords=[_, *_]):
            named = [keyword for keyword in node.keywords if keyword.arg]
            yield from (_with(node, keywords=[other for other in node.keywords if other is not one]) for one in named)
        case _:
            yield from _other_decisions(node)


def _other_decisions(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.If() | ast.IfExp():
            yield from (_with(node, test=ast.Constant(value)) for value in (True, False))
        case ast.While():
            yield _with(node, test=ast.Constant(value=False))
        case ast.comprehension(ifs=[_, *_]):
            yield _with(node, ifs=[])
        case ast.match_case() if not _catches_all(node):
            yield _with(node, guard=ast.Constant(value=False))


def _other_operators(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in _OPPOSITES[type(operator)]:
                yield _with(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])
    elif isinstance(node, ast.Break | ast.Continue):
        yield from (other() for other in _OPPOSITES[type(node)])
    else:
        operator = node.op  # type: ignore[attr-defined]
        yield from (_with(node, op=other()) for other in _OPPOSITES.get(type(operator), ()))


def _other_constants(value: object) -> Iterator[ast.Constant]:
    match value:
        case bool():
            yield ast.Constant(not value)
        case int() | float():
            yield ast.Constant(value + 1)
        case str() if len(value.split()) <= _WORDS_OF_A_SENTENCE:
            yield ast.Constant(f"XX{value}")
        case bytes():
            yield ast.Constant(b"XX" + value)


def _catches_all(case: ast.match_case) -> bool:
    """If it does: without it, nothing would be left for the type checker's `assert_never`."""
    return isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None and case.guard is None


def _is_none(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _line(node: ast.AST) -> int:
    if isinstance(node, ast.match_case):
        return node.pattern.lineno
    if isinstance(node, ast.comprehension):
        return node.target.lineno
    line: int = getattr(node, "lineno", 0)
    return line


def _text(node: ast.AST) -> str:
    """The node's first line."""
    return ast.unparse(ast.fix_missing_locations(copy(node))).strip().splitlines()[0]
