"""From a function's signature to the type that validates a model's input, and to its JSON schema."""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Struct

from agents.tools.port import ToolContext, ToolDeclarationError

_KEYWORD_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Parameters(Struct, frozen=True, kw_only=True):
    """`model` has a field for each argument; `context` names the parameter that gets the context instead.

    Without a `model` the schema is another's, who checks the input: it is handed over whole, as `input`.
    """

    model: type[Struct] | None
    schema: dict[str, Any]
    context: str | None


def parameters_of(function: Callable[..., Any], name: str, descriptions: Mapping[str, str]) -> Parameters:
    """Read the parameters of `function`.

    Args:
        function: what the tool runs.
        name: of the tool, for error messages.
        descriptions: of parameters by name, from the docstring.

    Raises:
        ToolDeclarationError: a parameter cannot be filled from JSON.
    """
    hints = _hints_of(function, name)
    signature = inspect.signature(function)
    stray = [argument for argument in descriptions if argument not in signature.parameters]
    if stray:
        raise ToolDeclarationError(
            f"tool `{name}`: its docstring describes {stray} under `Args:`, expected only parameters of the function, "
            f"{list(signature.parameters)}: correct the name or remove the entry"
        )
    fields: list[Any] = []
    context: str | None = None
    for parameter in signature.parameters.values():
        _check(parameter, hints, name)
        hint = hints[parameter.name]
        if hint is ToolContext:
            if context is not None:
                raise ToolDeclarationError(f"tool `{name}`: expected one ToolContext parameter, got two: remove one")
            context = parameter.name
            continue
        if descriptions.get(parameter.name):
            hint = Annotated[hint, msgspec.Meta(description=descriptions[parameter.name])]
        default = msgspec.NODEFAULT if parameter.default is inspect.Parameter.empty else parameter.default
        fields.append((parameter.name, hint, msgspec.field(default=default)))
    try:
        model = msgspec.defstruct(name, fields, kw_only=True, frozen=True, forbid_unknown_fields=True)
        return Parameters(model=model, schema=_schema_of(model), context=context)
    except (TypeError, ValueError) as error:
        raise ToolDeclarationError(
            f"tool `{name}`: expected parameters that JSON can carry (str, int, float, bool, list, dict, Literal, "
            f"datetime, msgspec.Struct …) with defaults of the same kind, got: {error}"
        ) from error


def _hints_of(function: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ToolDeclarationError(
            f"tool `{name}`: a type hint cannot be resolved ({error}): "
            "define or import the type at the top of the module"
        ) from error


def _check(parameter: inspect.Parameter, hints: Mapping[str, Any], name: str) -> None:
    if parameter.kind not in _KEYWORD_KINDS:
        raise ToolDeclarationError(
            f"tool `{name}`: expected parameters that are passed by name, got `{parameter}` "
            f"({parameter.kind.description}): name each argument that the model may give"
        )
    if parameter.name not in hints:
        raise ToolDeclarationError(
            f"tool `{name}`: parameter `{parameter.name}` has no type hint, expected one, as in "
            f"`{parameter.name}: str`: the model is told the type, and its input is checked against it"
        )


def _schema_of(model: type[Struct]) -> dict[str, Any]:
    """The model's schema at the top, where `type: object` is required, and those that it refers to in `$defs`."""
    (top,), components = msgspec.json.schema_components([model], ref_template="#/$defs/{name}")
    schema: dict[str, Any] = components.pop(top["$ref"].rsplit("/", 1)[1])
    del schema["title"]
    if components:
        schema["$defs"] = components
    return schema
