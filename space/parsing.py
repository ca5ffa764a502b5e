"""The text of a structure, read and written.

structure   base [sizes]
base        name | name ":" number | name ":" word "=" integer | exponents
exponents   "(" number "|" number ... ")"          as many as some number of factors has edges; commas will do
sizes       "{" edge "=" integer "," ... "}"       the sizes that are the same at every width
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from space import catalogue
from space.constraints import Fixed
from space.edges import EDGES, FACTORS, LENGTHS, SYMBOLS, edge_names
from space.errors import StructureError
from space.taxonomy import Theta

_NEAR = Fraction(1, 10**7)
_NUMBER = re.compile(r"[^eE]{1,40}([eE][+-]?\d{1,2})?")
_SIZED = re.compile(r"(?P<base>[^{}]*)\{(?P<sizes>[^{}]*)\}")


class Parsed(NamedTuple):
    """What a text says, and how an error should quote it."""

    theta: Theta
    fixed: Fixed
    given: str


def parse(text: str) -> Parsed:
    """Theta and fixed sizes of a text; the constraints of `space.constraints` are not checked.

    >>> parse("(1|0|0|0|1|0|0){AB=64}").fixed
    (('AB', 64),)

    Raises:
        StructureError: quotes `text` and says which part of it is wrong and what is allowed.
    """
    base = text.strip()
    own: Fixed = ()
    if "{" in base or "}" in base:
        match = _SIZED.fullmatch(base)
        if match is None:
            raise StructureError(f"{base!r}: unbalanced braces; write fixed sizes once, at the end, as in {{XAB=4,YAB=4}}")
        base, own = match["base"].strip(), _sizes(match["sizes"], text.strip())
    if re.search(r"[|,(]", base):
        theta = _exponents(base, text.strip())
        return Parsed(theta, _merged((), own, len(theta), text.strip()), repr(text))
    theta, implied = _named(base, text.strip())
    fixed = _merged(implied, own, len(theta), text.strip())
    return Parsed(theta, fixed, f"{text!r} = {spell(theta, fixed)}")


def numbers(values: Iterable[float | Fraction]) -> Parsed:
    """Theta of as many numbers as some number of factors has edges; floats within 1e-7 of a plain fraction become it.

    Raises:
        StructureError: where there are too many or too few, or one is not a finite number.
    """
    row = list(values)
    given = "(" + "|".join(f"{v}" for v in row) + ")"
    if len(row) not in LENGTHS:
        raise StructureError(_wrong_length(given, len(row)))
    return Parsed(tuple(_exact(v, given, s) for v, s in zip(row, _labels(len(row)), strict=True)), (), given)


def spell(theta: Iterable[Fraction], fixed: Fixed = ()) -> str:
    """Text that parses back: `(1/2|0|1/2|0|1/2|1/2|0)`, or with fixed sizes `(1|0|0|0|1|0|1){XAB=4,YAB=4}`."""
    sizes = "{" + ",".join(f"{edge}={size}" for edge, size in fixed) + "}" if fixed else ""
    return "(" + "|".join(map(str, theta)) + ")" + sizes


def _exponents(base: str, text: str) -> Theta:
    if base.startswith("(") != base.endswith(")"):
        raise StructureError(f"{text!r}: unbalanced parenthesis; write ({'|'.join(SYMBOLS)})")
    parts = [part.strip() for part in re.split(r"[|,]", base.strip("()"))]
    if len(parts) not in LENGTHS:
        raise StructureError(_wrong_length(repr(text), len(parts)))
    return tuple(_number(part, text, label) for part, label in zip(parts, _labels(len(parts)), strict=True))


def _named(base: str, text: str) -> tuple[Theta, Fixed]:
    label, colon, option = base.partition(":")
    name = label.strip().lower().replace("-", "_")
    word, equals, size = option.partition("=")
    if equals:
        found = catalogue.sized(name, word.strip(), _integer(size, text, word.strip()))
        if found is None:
            raise StructureError(_unknown_option(text, name, word.strip()))
        return found
    rho = _number(option, text, "rho") if colon else None
    theta = catalogue.theta_of(name, rho)
    if theta is None:
        raise StructureError(_unknown(text, name, rho))
    return theta, ()


def _sizes(part: str, text: str) -> Fixed:
    pairs = [entry.partition("=") for entry in part.split(",")]
    for edge, equals, _ in pairs:
        if not equals:
            raise StructureError(f"{text!r}: {edge.strip()!r} is not a fixed size; write an edge and an integer, as in XAB=4")
    return tuple((_edge(edge.strip()), _integer(size, text, edge.strip())) for edge, _, size in pairs)


def _edge(name: str) -> str:
    """An edge by its nodes, or for two factors by its symbol."""
    return EDGES[SYMBOLS.index(name.lower())] if name.lower() in SYMBOLS else name.upper()


def _merged(implied: Fixed, own: Fixed, length: int, text: str) -> Fixed:
    """The sizes that a name implies and those in braces, in the order of theta, each edge once."""
    names = edge_names(LENGTHS[length])
    both = [edge for edge, _ in (*implied, *own)]
    for edge in both:
        if edge not in names:
            raise StructureError(f"{text!r}: there is no edge {edge!r}; the edges are {', '.join(names)}")
        if both.count(edge) > 1:
            raise StructureError(f"{text!r}: the size of {edge} is given twice")
    sizes = dict((*implied, *own))
    return tuple((edge, sizes[edge]) for edge in names if edge in sizes)


def _integer(part: str, text: str, label: str) -> int:
    if not re.fullmatch(r"\d{1,12}", part.strip()) or not int(part):
        raise StructureError(f"{text!r}: {label} is {part.strip()!r}; write a positive integer such as 4")
    return int(part)


def _number(part: str, text: str, label: str) -> Fraction:
    try:
        value = Fraction(part if _NUMBER.fullmatch(part) else "")
    except (ValueError, ZeroDivisionError):
        raise StructureError(f"{text!r}: {label} is {part!r}; write a number in [0, 1] such as 0.25 or 1/4") from None
    return _snap(value)


def _exact(value: float | Fraction, given: str, label: str) -> Fraction:
    try:
        return _snap(Fraction(value))
    except (ValueError, OverflowError, TypeError):
        raise StructureError(f"{given}: {label} is {value!r}; every entry of theta is a number in [0, 1]") from None


def _snap(value: Fraction) -> Fraction:
    near = value.limit_denominator(1000)
    return near if abs(near - value) < _NEAR else value


def _labels(length: int) -> tuple[str, ...]:
    return SYMBOLS if length == len(EDGES) else edge_names(LENGTHS[length])


def _wrong_length(given: str, count: int) -> str:
    more = ", ".join(f"{length} for {factors}" for length, factors in LENGTHS.items() if factors > 2)
    return f"{given}: {count} entries given; theta has {len(EDGES)}: {', '.join(SYMBOLS)} (more factors: {more})"


def _unknown(text: str, name: str, rho: Fraction | None) -> str:
    if rho is None and catalogue.theta_of(name, Fraction(0)) is not None:
        return f"{text!r}: {name} needs the exponent of its rank, such as {name}:1/4, or a rank, such as {name}:rank=4"
    if rho is not None and catalogue.theta_of(name) is not None:
        cores = f" (with {name[3:]} cores: block_tensor_train{name[3:]}:{rho})" if re.fullmatch("btt[36]", name) else ""
        blocks = f", or {name}:blocks=4 for four blocks" if name == "monarch" else ""
        return f"{text!r}: {name} takes no exponent; write {name!r}{blocks}{cores}"
    more = [f"{family}{k}" for family in catalogue.CORES for k in range(3, len(FACTORS) + 1)]
    known = [*catalogue.FIXED, *catalogue.FAMILIES, *catalogue.PAPER, *more]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{text!r} is not a structure; {hint}known: {catalogue.spellings()}"


def _unknown_option(text: str, name: str, word: str) -> str:
    takes = {"monarch": "blocks"} | dict.fromkeys(catalogue.FAMILIES, "rank")
    if name in takes:
        return f"{text!r}: {name} takes no {word!r}; write {name}:{takes[name]}=4"
    return f"{text!r}: {name!r} takes no {word!r}; known: {catalogue.spellings()}"
