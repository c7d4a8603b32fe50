"""The OpenAPI 3.1 document of the gateway, made of the table of routes and the types that they read and answer."""

import inspect
import re
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller
from gateway.parts import Parts
from gateway.problems import PROBLEM_JSON, PROBLEMS, ProblemDetails
from gateway.reading import JSON, may_be_absent
from gateway.route import PATH_PARAMETERS, Route
from schemas.ids import MessageId

Document = dict[str, Any]
REF = "#/components/schemas/{name}"
EITHER_TEXT_OR_CONTENT = [
    {"title": "with text", "required": ["text"], "properties": {"text": {"type": "string"}}},
    {"title": "with content", "required": ["content"], "properties": {"content": {"type": "array"}}},
]
"""The class checks it when it is made, where a derived schema cannot see it."""
HEADER_TYPES: dict[str, Any] = {"Idempotency-Key": MessageId}
"""Of request headers that are checked; all others are any text."""
WITHOUT_BODY = frozenset({101, 204, 304})
RESPONSE_HEADERS = {
    "X-Request-Id": "The request's id, for logs and questions: the one that came with it, or a new one.",
    "RateLimit": "How many requests are left to the key now (`r`).",
    "RateLimit-Policy": "How many requests the key may send (`q`) within so many seconds (`w`).",
    "Retry-After": "How many seconds to wait.",
}
DESCRIPTION = """Send messages to agents, follow what they do, and read back what they did.

A key is sent as `Authorization: Bearer KEY`. The ids of a tenant's sessions begin with `TENANT:`. In a path, an id is
percent-encoded. What is answered with 202 is on all replicas of the brokers. Errors are problem details (RFC 9457),
whose `code` is for programs."""


def document(routes: Iterable[Route]) -> Document:
    """The document of these routes."""
    described = tuple(routes)
    paths: Document = {}
    for route in described:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headrace", "version": "1", "description": DESCRIPTION},
        "security": [{"key": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in described)],
        "paths": paths,
        "components": {
            "schemas": _schemas(described),
            "headers": {
                name: {"description": text, "schema": {"type": "string"}} for name, text in RESPONSE_HEADERS.items()
            },
            "responses": {
                f"Problem{status}": _problem(status) for status in sorted({kind.status for kind in PROBLEMS.values()})
            },
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key that `headrace keys create` made."}
            },
        },
    }


def with_document(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """The routes, and one more that answers with the document of all of them."""

    async def get_document(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
        del request, parts, caller
        return web.Response(body=body, content_type=JSON)

    own = Route(
        method="GET",
        path="/openapi.json",
        handler=get_document,
        summary="This document",
        tag="gateway",
        needs_key=False,
        answers={200: None},
    )
    body = msgspec.json.encode(document((*routes, own)))
    return (*routes, own)


def _operation(route: Route) -> Document:
    words = re.findall(r"\w+", route.path.replace("{", "by_"))
    operation: Document = {
        "operationId": "_".join([route.method.lower(), *words]),
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route),
        "responses": {str(status): _answer(route, status) for status in sorted(route.answers)},
    }
    if text := inspect.getdoc(route.handler):
        operation["description"] = _prose(text)
    if route.scope is not None:
        operation["description"] = f"{operation.get('description', '')}\n\nNeeds the scope `{route.scope}`.".strip()
    if not route.needs_key:
        operation["security"] = []
    if not operation["parameters"]:
        del operation["parameters"]
    if route.body is not None:
        schema = {"$ref": REF.format(name=route.body.__name__)}
        content = {JSON: {"schema": schema}}
        operation["requestBody"] = {"required": not may_be_absent(route.body), "content": content}
    for status in _problem_statuses(route) - set(route.answers):
        operation["responses"][str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    operation["responses"] = dict(sorted(operation["responses"].items()))
    return operation


def _problem_statuses(route: Route) -> set[int]:
    """What may go wrong, by what the route has."""
    found = {400, 403, 500, 503}
    if route.needs_key:
        found |= {401, 429}
    if "{" in route.path:
        found |= {404}
    if route.method == "POST":
        found |= {409, 413, 415, 422}
    return found


def _parameters(route: Route) -> list[Document]:
    path = [_parameter("path", name, PATH_PARAMETERS[name]) for name in re.findall(r"{(\w+)}", route.path)]
    headers = []
    for name, meaning in route.request_headers.items():
        headers.append({**_parameter("header", name, HEADER_TYPES.get(name, str)), "description": meaning})
    query = []
    if route.query is not None:
        for field in msgspec.structs.fields(route.query):
            parameter = _parameter("query", field.encode_name, field.type)
            if isinstance(field.default, str | int | float) and not isinstance(field.default, type(msgspec.NODEFAULT)):
                parameter["schema"]["default"] = field.default
            query.append({**parameter, "required": field.required})
    return path + query + headers


def _parameter(place: str, name: str, kind: Any) -> Document:
    (schema,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    schema = _inlined(schema, components)
    choices = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(choices) == 1:
        # An optional parameter is left out; there is no way to write null.
        schema = {**{word: value for word, value in schema.items() if word != "anyOf"}, **choices[0]}
    text = schema.pop("description", None)
    parameter = {"name": name, "in": place, "required": place == "path", "schema": schema}
    return parameter if text is None else {**parameter, "description": text}


def _inlined(schema: Document, components: dict[str, Any]) -> Document:
    """The schema without references: enumerations have a name of their own, which a parameter does not need."""
    if "$ref" in schema:
        rest = {word: value for word, value in schema.items() if word != "$ref"}
        return {**components[schema["$ref"]], **rest}
    if "anyOf" in schema:
        return {**schema, "anyOf": [_inlined(one, components) for one in schema["anyOf"]]}
    return schema


def _answer(route: Route, status: int) -> Document:
    kind = route.answers[status]
    names = ["X-Request-Id", *(["RateLimit", "RateLimit-Policy"] if route.needs_key else [])]
    described: Document = {
        "description": _prose(kind.__doc__ or "") if kind is not None else route.summary,
        "headers": _headers(names),
    }
    if kind is not None:
        described["content"] = {JSON: {"schema": {"$ref": REF.format(name=kind.__name__)}}}
    elif status not in WITHOUT_BODY:
        described["content"] = {route.media_type: {"schema": {} if route.media_type == JSON else {"type": "string"}}}
    return described


def _problem(status: int) -> Document:
    kinds = [f"`{code}`: {kind.title}. {kind.remedy}" for code, kind in PROBLEMS.items() if kind.status == status]
    headers = ["X-Request-Id", *(["Retry-After"] if status in (429, 503) else [])]
    return {
        "description": "\n".join(f"* {text}" for text in kinds),
        "headers": _headers(headers),
        "content": {PROBLEM_JSON: {"schema": {"$ref": REF.format(name=ProblemDetails.__name__)}}},
    }


def _headers(names: Iterable[str]) -> Document:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _schemas(routes: Iterable[Route]) -> Document:
    kinds: dict[type[Struct], None] = {ProblemDetails: None}
    for route in routes:
        kinds |= dict.fromkeys(kind for kind in (route.body, *route.answers.values()) if kind is not None)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=REF)
    unclear = [name for name in schemas if "." in name]
    assert not unclear, f"expected each type to have a name of its own, got {unclear}"
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = _prose(schema["description"])
    if "MessageBody" in schemas:
        schemas["MessageBody"]["oneOf"] = EITHER_TEXT_OR_CONTENT
    return dict(sorted(schemas.items()))


def _prose(text: str) -> str:
    """A docstring with one line for each paragraph, up to what it raises."""
    said = inspect.cleandoc(text).split("\n\nRaises:")[0]
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in said.split("\n\n"))
