"""A JMESPath expression over a JSON document."""

import json
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from agents.apart.refused import RefusedError

MAX_RESULT_CHARS = 150_000
"""More than a result may have; counted while it is written, since a short expression can make an endless value."""


def compute(data: str, expression: str) -> str:
    """The value that the expression picks, as JSON."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise RefusedError(f"expected `data` to be JSON, got something else: {error}"[:500]) from None
    try:
        value = jmespath.search(expression, document)
    except JMESPathError as error:
        raise RefusedError(f"expected a JMESPath expression that fits the data: {error}"[:1_000]) from None
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise RefusedError(f"the expression does not fit the data: {error}"[:500]) from None
    return _written(value)


def _written(value: Any) -> str:
    parts: list[str] = []
    chars = 0
    try:
        for part in json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).iterencode(value):
            parts.append(part)
            chars += len(part)
            if chars > MAX_RESULT_CHARS:
                raise RefusedError(
                    f"the result has more than {MAX_RESULT_CHARS:,} characters: pick less, for instance [:20]"
                )
    except TypeError:
        raise RefusedError(
            "expected an expression with a value, got a bare `&expression`: pass it to a function"
        ) from None
    return "".join(parts)
