"""Arithmetic, exactly: a parser's tree and a list of what is allowed in it. Nothing is ever executed.

Whole numbers are exact, of any size up to a limit. All else is decimal with 28 significant digits, so that 0.1 + 0.2 is
0.3; trigonometry has the 15 to 17 digits of binary floating point.
"""

import ast
import math
import re
import sys
from collections.abc import Callable
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    localcontext,
)

from agents.tools.declaration import tool
from agents.tools.port import ToolError

MAX_EXPRESSION_CHARS = 1_000
"""Longer than arithmetic that a model writes; it also bounds the parser, which is not ours."""
MAX_DEPTH = 50
"""Of nesting: far below Python's own limit of recursion."""
MAX_DIGITS = 1_000
"""Of a whole number; a product of two takes a microsecond, and a longer one helps no reader."""

Number = int | Decimal

_BITS_PER_DIGIT = math.log2(10)
_CONTEXT = Context(prec=28, Emax=MAX_DIGITS, Emin=-MAX_DIGITS, traps=[DivisionByZero, InvalidOperation, Overflow])
_PRECISE = Context(prec=40, Emax=MAX_DIGITS, Emin=-MAX_DIGITS, traps=[DivisionByZero, InvalidOperation, Overflow])
_EXAMPLE = "`(1200 * 1.19 - 50) / 3` or `sqrt(2) ** 3`"
_CONSTANTS = {
    "pi": Decimal("3.141592653589793238462643383280"),
    "e": Decimal("2.718281828459045235360287471353"),
    "tau": Decimal("6.283185307179586476925286766559"),
}


@tool(idempotent=True, attempts=1, timeout_s=5)
async def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression, exactly.

    Use it for every calculation rather than calculating yourself. Operators: + - * / // (rounded down) % (remainder)
    ** (power), parentheses. Functions: abs, round(x, digits), floor, ceil, min, max, sqrt, exp, ln, log(x, base)
    (natural without base), log10, log2, sin, cos, tan, asin, acos, atan, atan2(y, x) (radians), degrees, radians.
    Constants: pi, e, tau. Decimals have 28 significant digits; halves are rounded away from zero.

    Args:
        expression: the expression, such as "(1200 * 1.19 - 50) / 3"; no variables, units or thousands separators.
    """
    return calculate(expression)


def calculate(expression: str) -> str:
    """The value of `expression`, in decimal notation.

    Raises:
        ToolError: it is not arithmetic, has no real value, or is too large.
    """
    tree = _parse(expression)
    try:
        with localcontext(_CONTEXT):
            return _written(_evaluate(tree, expression, 0))
    except (DivisionByZero, ZeroDivisionError) as error:
        raise ToolError("division by zero: the expression has no value") from error
    except (Overflow, OverflowError) as error:
        raise _too_large() from error
    except (DecimalException, ValueError) as error:
        raise ToolError(
            "the expression has no real value (such as the root or logarithm of a negative number): check its arguments"
        ) from error


def _parse(expression: str) -> ast.expr:
    if len(expression) > MAX_EXPRESSION_CHARS:
        raise ToolError(
            f"expected at most {MAX_EXPRESSION_CHARS:,} characters, got {len(expression):,}: calculate it in parts"
        )
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        hint = ""
        if re.search(r"\d%", expression):
            hint = " (% is the remainder of a division: write 5% as 0.05)"
        raise ToolError(
            f"expected an arithmetic expression, such as {_EXAMPLE}, got `{expression[:200]}`{hint}"
        ) from error


def _evaluate(node: ast.expr, source: str, depth: int) -> Number:
    if depth > MAX_DEPTH:
        raise ToolError(f"expected at most {MAX_DEPTH} levels of nesting, got more: calculate it in parts")
    match node:
        case ast.Constant():
            return _literal(node, source)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            value = _evaluate(operand, source, depth + 1)
            return -value if isinstance(sign, ast.USub) else value
        case ast.BinOp():
            return _evaluate_chain(node, source, depth)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            function, fewest, most = _FUNCTIONS[name]
            if not fewest <= len(args) <= most:
                counts = str(fewest) if fewest == most else f"{fewest} to {most}"
                raise ToolError(f"expected {counts} argument(s) of `{name}`, got {len(args)}")
            return function(*(_evaluate(arg, source, depth + 1) for arg in args))
    raise _refusal(node, source)


def _evaluate_chain(node: ast.BinOp, source: str, depth: int) -> Number:
    """A sum of many terms is a tree as deep as it is long, always to the left: walked without recursion."""
    chain: list[ast.BinOp] = []
    first: ast.expr = node
    while isinstance(first, ast.BinOp):
        if type(first.op) not in _OPERATORS:
            raise _refusal(first, source)
        chain.append(first)
        first = first.left
    value = _evaluate(first, source, depth + 1)
    for link in reversed(chain):
        value = _OPERATORS[type(link.op)](value, _evaluate(link.right, source, depth + 1))
    return value


def _refusal(node: ast.expr, source: str) -> ToolError:
    part = (ast.get_source_segment(source.strip(), node) or source)[:200]
    match node:
        case ast.BinOp(op=ast.BitXor()):
            hint = "write powers with `**`"
        case ast.Tuple():
            hint = "write numbers without thousands separators, one expression per call"
        case ast.Call(func=ast.Name(id=name)) if name in _FUNCTIONS:
            hint = f"give the arguments of `{name}` by position"
        case ast.Call(func=ast.Name(id=name)):
            hint = f"there is no function `{name}`; there are {', '.join(_FUNCTIONS)}"
        case ast.Name():
            hint = f"there are no variables; the constants are {', '.join(_CONSTANTS)}"
        case _:
            hint = f"use numbers, + - * / // % **, parentheses and functions, as in {_EXAMPLE}"
    return ToolError(f"expected arithmetic, got `{part}`: {hint}")


def _literal(node: ast.Constant, source: str) -> Number:
    if type(node.value) is int:
        return _whole(node.value)
    if type(node.value) is not float:
        raise _refusal(node, source)
    text = ast.get_source_segment(source.strip(), node)
    assert text is not None
    # From the digits as written: those beyond the 17th would be lost in the float that the parser made of them.
    return +Decimal(text.replace("_", ""))


def _whole(value: int) -> int:
    if value.bit_length() > MAX_DIGITS * _BITS_PER_DIGIT:
        raise _too_large()
    return value


def _too_large() -> ToolError:
    return ToolError(f"the value, or one on the way to it, is too large: the limit is {MAX_DIGITS:,} digits")


def _add(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int):
        return _whole(left + right)
    return Decimal(left) + Decimal(right)


def _multiply(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int):
        return _whole(left * right)
    return Decimal(left) * Decimal(right)


def _divide(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and right != 0 and left % right == 0:
        return left // right
    return _nonzero(Decimal(left), Decimal(right))


def _nonzero(left: Decimal, right: Decimal) -> Decimal:
    """Decimal calls 0/0 an invalid operation; for a reader it is a division by zero too."""
    if right == 0:
        raise ZeroDivisionError
    return left / right


def _floor_divide(left: Number, right: Number) -> Number:
    """Rounded down, as Python does for whole numbers; Decimal's own operator rounds towards zero."""
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    quotient, remainder = _divmod(Decimal(left), Decimal(right))
    return int(quotient) - (1 if remainder and (remainder < 0) != (right < 0) else 0)


def _remainder(left: Number, right: Number) -> Number:
    """With the sign of `right`, as Python has it for whole numbers."""
    if isinstance(left, int) and isinstance(right, int):
        return left % right
    _, remainder = _divmod(Decimal(left), Decimal(right))
    return remainder + right if remainder and (remainder < 0) != (right < 0) else remainder


def _divmod(left: Decimal, right: Decimal) -> tuple[Decimal, Decimal]:
    if right == 0:
        raise ZeroDivisionError
    if left and left.adjusted() - right.adjusted() >= _CONTEXT.prec - 1:
        raise ToolError("the numbers are too far apart for a whole quotient: use / instead")
    return divmod(left, right)


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int):
        if exponent >= 0:
            # |base| < 2 stays small for any exponent; all else grows by at least a bit with each step.
            if abs(base) > 1 and (base.bit_length() - 1) * exponent > MAX_DIGITS * _BITS_PER_DIGIT:
                raise _too_large()
            return _whole(base**exponent)
        if base == 0:
            raise ZeroDivisionError
    if base == 0 and exponent == 0:
        return 1
    if base == 0 and exponent < 0:
        raise ZeroDivisionError
    return Decimal(base) ** Decimal(exponent)


_OPERATORS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: _add,
    ast.Sub: lambda left, right: _add(left, -right),
    ast.Mult: _multiply,
    ast.Div: _divide,
    ast.FloorDiv: _floor_divide,
    ast.Mod: _remainder,
    ast.Pow: _power,
}


def _round(value: Number, digits: Number = 0) -> Number:
    if not isinstance(digits, int) or abs(digits) > MAX_DIGITS:
        raise ToolError("expected a whole number of digits in `round(x, digits)`, such as `round(2.345, 2)`")
    if isinstance(value, int) and digits >= 0:
        return value
    with localcontext(_CONTEXT) as context:
        # Room for all digits of the value: rounding to a place must not fail for want of precision.
        context.prec = 3 * MAX_DIGITS
        rounded = Decimal(value).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)
    return int(rounded) if digits <= 0 else rounded


def _square_root(value: Number) -> Number:
    if isinstance(value, int) and value >= 0 and math.isqrt(value) ** 2 == value:
        return math.isqrt(value)
    return Decimal(value).sqrt()


def _logarithm(value: Number, base: Number | None = None) -> Number:
    if value <= 0 or (base is not None and (base <= 0 or base == 1)):
        raise ValueError
    # More digits on the way, so that the logarithm of 8 to the base 2 is 3 and not a hair beside it.
    with localcontext(_PRECISE):
        result = Decimal(value).ln() if base is None else Decimal(value).ln() / Decimal(base).ln()
    return +result


def _binary(function: Callable[..., float]) -> Callable[..., Number]:
    """`function` in binary floating point; a result within the rounding error of its arguments, as of sin(pi), is 0."""

    def call(*args: Number) -> Number:
        floats = [float(arg) for arg in args]
        result = function(*floats)
        return Decimal(repr(result)) if abs(result) > max(map(abs, floats)) * sys.float_info.epsilon else 0

    return call


_MANY = 500
"""No expression is long enough for more arguments."""
_FUNCTIONS: dict[str, tuple[Callable[..., Number], int, int]] = {
    "abs": (lambda value: -value if value < 0 else value, 1, 1),
    "round": (_round, 1, 2),
    "floor": (lambda value: int(Decimal(value).to_integral_value(ROUND_FLOOR)), 1, 1),
    "ceil": (lambda value: int(Decimal(value).to_integral_value(ROUND_CEILING)), 1, 1),
    "min": (min, 1, _MANY),
    "max": (max, 1, _MANY),
    "sqrt": (_square_root, 1, 1),
    "exp": (lambda value: Decimal(value).exp(), 1, 1),
    "ln": (_logarithm, 1, 1),
    "log": (_logarithm, 1, 2),
    "log10": (lambda value: _logarithm(value, 10), 1, 1),
    "log2": (lambda value: _logarithm(value, 2), 1, 1),
    "sin": (_binary(math.sin), 1, 1),
    "cos": (_binary(math.cos), 1, 1),
    "tan": (_binary(math.tan), 1, 1),
    "asin": (_binary(math.asin), 1, 1),
    "acos": (_binary(math.acos), 1, 1),
    "atan": (_binary(math.atan), 1, 1),
    "atan2": (_binary(math.atan2), 2, 2),
    "degrees": (_binary(math.degrees), 1, 1),
    "radians": (_binary(math.radians), 1, 1),
}


_PLAIN_EXPONENT = 30
"""A decimal of more digits before or zeros after the point is easier to read as 1.5E+40."""


def _written(value: Number) -> str:
    if isinstance(value, int):
        return str(value)
    if value == 0:
        return "0"
    value = value.normalize()
    return format(value, "f") if abs(value.adjusted()) <= _PLAIN_EXPONENT else str(value)
