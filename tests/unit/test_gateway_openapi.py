"""The OpenAPI document of the gateway: valid, complete, and made of what the server does."""

import re
from typing import Any

import jsonschema
import msgspec
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from gateway.metrics import Metrics
from gateway.openapi import document
from gateway.problems import PROBLEMS, Code
from gateway.route import Route
from gateway.routes import ROUTES

DOCUMENT: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document(ROUTES)))


def test_it_is_openapi() -> None:
    """It is what the OpenAPI initiative's own schema of 3.1 demands, and its schemas are JSON Schema of 2020-12."""
    jsonschema.Draft202012Validator(OPENAPI_31).validate(DOCUMENT)
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def references(value: Any) -> set[str]:
    match value:
        case dict():
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own | {found for inner in value.values() for found in references(inner)}
        case list():
            return {found for inner in value for found in references(inner)}
    return set()


def test_every_reference_leads_somewhere() -> None:
    """What is referred to is there."""
    for reference in references(DOCUMENT):
        found: Any = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            found = found[name]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_described(route: Route) -> None:
    """With its body, its parameters, its answers, and the problems of whoever has no key or a wrong one."""
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    assert operation["summary"] == route.summary
    assert ("requestBody" in operation) == (route.body is not None)
    assert ("401" in operation["responses"]) == route.needs_key
    assert {str(status) for status in route.answers} <= set(operation["responses"])
    named = {parameter["name"] for parameter in operation.get("parameters", [])}
    assert set(re.findall(r"{(\w+)}", route.path)) <= named
    if route.query is not None:
        assert set(route.query.__struct_encode_fields__) <= named


def test_operations_have_names_of_their_own() -> None:
    """Generators of clients make functions of them."""
    names = [operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)


def test_every_problem_is_explained() -> None:
    """Each code has its row, whose status is one of an error; the document names each code where its status is."""
    assert list(PROBLEMS) == list(Code)
    for code, kind in PROBLEMS.items():
        assert 400 <= kind.status < 600
        assert f"`{code}`" in DOCUMENT["components"]["responses"][f"Problem{kind.status}"]["description"]


def test_metrics_do_not_repeat_names() -> None:
    """Each metric has a name and a meaning of its own, and none is labelled with an id."""
    described = Metrics().described()
    assert len({metric.name for metric in described}) == len(described) > 5
    for metric in described:
        assert metric.name.startswith("headrace_gateway_")
        assert metric.meaning.endswith(".")
        assert not {"session", "session_id", "tenant", "path", "key"} & set(metric.labels)
