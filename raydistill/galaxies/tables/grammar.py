"""Parse expressions of a table's columns, such as "petroMag_u - petroMag_r > 2.2".

The grammar is raydistill's own. Text becomes steps of a stack machine, and nothing in it can name
an attribute, a module or a function that is not in `FUNCTIONS`. From weak to strong binding:

- `or` and `|`; then `and` and `&`; then `not`;
- comparisons, which may be chained (`0 < a <= 1`), and `in [1, 2]`;
- `+` and `-`; then `*`, `/`, `//` and `%`; then the signs `-` and `+`, and `~`; then `**`.

Operands are numbers, 'text', True, False, calls of functions, and names of columns. Names of other
characters than letters, digits and _ stand between backticks: `odd.fraction`.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from raydistill.errors import ConfigError, nearest

COLUMN, CONSTANT, IN, NOT, NEGATIVE, POSITIVE = "column", "constant", "in", "not", "negative", "positive"
COMPARISONS = ("<", "<=", "==", "!=", ">=", ">")
# Functions of numbers, and how many they take.
FUNCTIONS = {
    **dict.fromkeys(
        ("abs", "sqrt", "exp", "expm1", "log", "log10", "log1p", "floor", "ceil", "sin", "cos", "tan", "sinh",
         "cosh", "tanh", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh"),
        1,
    ),
    "arctan2": 2,
}  # fmt: skip
_COMPARING = 4
_BINARY = {
    "or": 1, "|": 1, "and": 2, "&": 2, **dict.fromkeys((*COMPARISONS, IN, NOT), _COMPARING), "+": 5, "-": 5,
    "*": 6, "/": 6, "//": 6, "%": 6, "**": 8,
}  # fmt: skip
_PREFIX = {NOT: (NOT, 3), "~": (NOT, 7), "-": (NEGATIVE, 7), "+": (POSITIVE, 7)}
_WORDS = ("and", "or", "not", "in", "True", "False")

MAX_CHARACTERS, MAX_TOKENS, MAX_DEPTH = 10_000, 2_000, 50

_SHOWN = 60  # characters of an expression in a message
_FIX = (
    "write columns (unusual names between backticks), numbers, 'text', + - * / // % **, comparisons, in [...], and, or, "
    "not, functions such as log10, as in 'truth_class <= 2 and truth_dust_lane > 0'"
)

_TOKEN = re.compile(
    r"""(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![\w.])
    |(?P<text>'(?:[^'\\]|\\['"\\])*'|"(?:[^"\\]|\\['"\\])*")
    |(?P<quoted>`[^`]+`)
    |(?P<name>[^\W\d]\w*)
    |(?P<mark>\*\*|//|<=|>=|==|!=|[-+*/%<>&|~()\[\],])
    |(?P<blank>\s+)""",
    re.VERBOSE,
)


class Step(NamedTuple):
    """Push a column or a constant, or replace operands by their result.

    `num_operands` is their number, 0 for a column or a constant. `position` is the number of the
    character in the expression, from 1.
    """

    operator: str
    operand: Any
    num_operands: int
    position: int


class _Token(NamedTuple):
    kind: str  # "number", "text", "quoted", "name", "mark" or "end"
    text: str
    position: int


def parse(expression: str) -> list[Step]:
    """Return the steps that compute an expression.

    Raises
    ------
    ValueError
        The expression is wrong, too long or too deep. The message names the character.
    """
    if len(expression) > MAX_CHARACTERS:
        raise ValueError(f"it has {len(expression)} characters, and at most {MAX_CHARACTERS} are read")
    return _Parser(_tokens(expression)).steps()


def parse_expression(expression: str, where: str) -> list[Step]:
    """Return the steps that compute an expression, or raise ConfigError."""
    try:
        return parse(expression)
    except ValueError as error:
        raise wrong_expression(expression, error, where) from error


def wrong_expression(expression: str, error: Exception, where: str) -> ConfigError:
    """Return the error for an expression that has no value."""
    return ConfigError(f"'{shorten(expression)}' cannot be computed from the table ({error})", where, _FIX)


def shorten(text: str) -> str:
    """Return the start of a long text."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _tokens(expression: str) -> list[_Token]:
    tokens, at = [], 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            advice = "; write == to compare" if expression[at] == "=" else ""
            raise ValueError(f"character {at + 1}: {expression[at]!r} is not expected here{advice}")
        kind = str(match.lastgroup)
        if kind != "blank":
            is_word = kind == "name" and match[0] in _WORDS
            tokens.append(_Token("mark" if is_word else kind, match[0], at + 1))
        at = match.end()
    if len(tokens) > MAX_TOKENS:
        raise ValueError(f"it has {len(tokens)} names, numbers and signs, and at most {MAX_TOKENS} are read")
    return [*tokens, _Token("end", "", len(expression) + 1)]


class _Parser:
    """Read tokens by precedence climbing; see Pratt 1973, doi:10.1145/512927.512931."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0
        self._steps: list[Step] = []

    def steps(self) -> list[Step]:
        self._expression(1)
        if self._next.kind != "end":
            raise _unexpected(self._next)
        return self._steps

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _skips(self, mark: str) -> bool:
        """Take the next token if it is this mark."""
        is_mark = self._next.kind == "mark" and self._next.text == mark
        self._at += is_mark
        return is_mark

    def _require(self, mark: str) -> None:
        if not self._skips(mark):
            raise ValueError(f"character {self._next.position}: '{mark}' is missing")

    def _push(self, operator: str, num_operands: int, position: int, operand: Any = None) -> None:
        self._steps.append(Step(operator, operand, num_operands, position))

    def _expression(self, least: int) -> None:
        """Read operands and all operators that bind at least as strongly."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"character {self._next.position}: it is nested more than {MAX_DEPTH} deep")
        self._operand()
        while self._next.kind == "mark" and _BINARY.get(self._next.text, 0) >= least:
            token = self._take()
            if _BINARY[token.text] == _COMPARING:
                self._membership(token) if token.text in (IN, NOT) else self._comparison(token)
                if self._next.kind == "mark" and _BINARY.get(self._next.text) == _COMPARING:
                    raise _unexpected(self._next)
            else:  # `**` alone binds from the right, also a sign: 2 ** -1
                self._expression(7 if token.text == "**" else _BINARY[token.text] + 1)
                self._push(token.text, 2, token.position)
        self._depth -= 1

    def _operand(self) -> None:
        token = self._take()
        if token.kind == "mark" and token.text in _PREFIX:
            operator, least = _PREFIX[token.text]
            self._expression(least)
            self._push(operator, 1, token.position)
        elif token.kind == "mark" and token.text == "(":
            self._expression(1)
            self._require(")")
        elif token.kind == "name" and self._skips("("):
            self._call(token)
        elif token.kind in ("name", "quoted"):
            self._push(COLUMN, 0, token.position, token.text.strip("`"))
        else:
            self._push(CONSTANT, 0, token.position, _constant(token))

    def _comparison(self, first: _Token) -> None:
        tokens = [first]
        self._expression(_COMPARING + 1)
        while self._next.kind == "mark" and self._next.text in COMPARISONS:
            tokens.append(self._take())
            self._expression(_COMPARING + 1)
        self._push("compare", len(tokens) + 1, first.position, tuple(token.text for token in tokens))

    def _membership(self, token: _Token) -> None:
        if token.text == NOT:
            self._require(IN)
        end = ")" if self._skips("(") else "]"
        if end == "]":
            self._require("[")
        values = [self._signed_constant()]
        while self._skips(",") and not (self._next.kind == "mark" and self._next.text == end):
            values.append(self._signed_constant())
        self._require(end)
        self._push(IN, 1, token.position, values)
        if token.text == NOT:
            self._push(NOT, 1, token.position)

    def _signed_constant(self) -> Any:
        is_negative = self._skips("-")
        token = self._take()
        if is_negative and token.kind != "number":
            raise _unexpected(token)
        value = _constant(token)
        return -value if is_negative else value

    def _call(self, name: _Token) -> None:
        if name.text not in FUNCTIONS:
            hint = nearest(shorten(name.text), tuple(FUNCTIONS))
            raise ValueError(f"character {name.position}: there is no function '{shorten(name.text)}', {hint}")
        for n in range(FUNCTIONS[name.text]):
            if n:
                self._require(",")
            self._expression(1)
        self._require(")")
        self._push(name.text, FUNCTIONS[name.text], name.position)


def _constant(token: _Token) -> Any:
    if token.kind == "number":
        is_whole = token.text.isdecimal() and len(token.text) <= 20 and int(token.text) < 2**64
        return int(token.text) if is_whole else float(token.text)
    if token.kind == "text":
        return re.sub(r"\\(.)", r"\1", token.text[1:-1])
    if token.kind == "mark" and token.text in ("True", "False"):
        return token.text == "True"
    raise _unexpected(token)


def _unexpected(token: _Token) -> ValueError:
    if token.kind == "end":
        return ValueError(f"character {token.position}: a value is missing")
    return ValueError(f"character {token.position}: '{shorten(token.text)}' is not expected here")
