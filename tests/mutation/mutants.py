"""Mutants of a module's source, made by Cosmic Ray's operators. No files are written and no tests run here."""

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators.provider import OperatorProvider

# One replacement of each arithmetic operator: the others die by the same tests. Identity instead of equality and
# back is left out, which is the same for enums, None and small numbers.
_BINARY: Final = (
    "Add_Sub Sub_Add Mul_FloorDiv FloorDiv_Mul Mod_Mul RShift_LShift LShift_RShift BitOr_BitAnd BitAnd_BitOr"
)
_COMPARED: Final = ("Eq", "NotEq", "Lt", "LtE", "Gt", "GtE")
_OPERATORS: Final = (
    *(f"ReplaceBinaryOperator_{pair}" for pair in _BINARY.split()),
    *(f"ReplaceComparisonOperator_{one}_{other}" for one in _COMPARED for other in _COMPARED if one != other),
    *("ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is"),
    *(f"ReplaceUnaryOperator_Delete_{name}" for name in ("Not", "USub", "Invert")),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "NumberReplacer", "ZeroIterationForLoop"),
)

Position = tuple[int, int]  # line, from 1, and column, from 0


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of a module: the changed line before and after, and the whole source with it."""

    line: int
    was: str
    now: str
    source: str


def make(source: str, functions: Collection[str] = ()) -> Iterator[Mutant]:
    """Yield the mutants of a module, or of some of its functions and classes, without annotations and decorators."""
    tree = ast.parse(source)
    included = [_region(node) for node in ast.walk(tree) if getattr(node, "name", None) in functions]
    ignored = [_region(node) for node in _ignored(tree)]
    provider = OperatorProvider()
    for name in _OPERATORS:
        operator = provider[name]()
        positions = [at for node in ast_nodes(get_ast(source)) for at, _ in operator.mutation_positions(node)]
        for occurrence, position in enumerate(positions):
            if (functions and not _inside(position, included)) or _inside(position, ignored):
                continue
            mutated = MutationVisitor.mutate_code(source, operator, occurrence)
            if mutated is not None and mutated != source:
                yield _mutant(source, mutated)


def _mutant(source: str, mutated: str) -> Mutant:
    before, after = source.splitlines(), mutated.splitlines()
    line = next(number for number, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1])
    return Mutant(line + 1, " ".join(before[line].split()), " ".join(after[line].split()), mutated)


def _ignored(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield node
        children = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        yield from (child for child in (*children, *getattr(node, "decorator_list", ())) if child is not None)


def _region(node: ast.AST) -> tuple[Position, Position]:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _inside(position: Position, regions: list[tuple[Position, Position]]) -> bool:
    return any(start <= position < end for start, end in regions)
