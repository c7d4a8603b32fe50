"""Reads what a request says into a type, and writes a type as its answer. What does not fit is a `Problem`."""

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller
from gateway.problems import Code, Problem
from gateway.route import PATH_PARAMETERS

T = TypeVar("T", bound=Struct)
JSON = "application/json"
READ_TIMEOUT_S = 30.0
"""A phone in a train sends a megabyte in less."""


async def read_body(request: web.Request, kind: type[T]) -> T:
    """The JSON body; none is like `{}` where nothing in it is required.

    Raises:
        Problem: `not_json_type`, `not_json`, `not_valid` or `too_large`.
    """
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            value = await request.read()
    except TimeoutError:
        raise Problem(
            Code.NOT_VALID, f"expected the whole body within {READ_TIMEOUT_S:g} s, got a part of it"
        ) from None
    if not value and may_be_absent(kind):
        return kind()
    if request.content_type != JSON:
        raise Problem(Code.NOT_JSON_TYPE, f"expected `Content-Type: {JSON}`, got {request.content_type}")
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.ValidationError as error:
        raise _not_valid("the body", error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(Code.NOT_JSON, f"expected a JSON object as the body: {error}") from None


def may_be_absent(kind: type[Struct]) -> bool:
    """Whether a body of this kind says nothing that must be said."""
    try:
        kind()
    except (TypeError, ValueError):
        return False
    return True


def read_query(request: web.Request, kind: type[T]) -> T:
    """The parameters behind the `?`, each given once; raises `Problem(not_valid)`."""
    given = dict(request.query)
    if len(given) != len(request.query):
        repeated = sorted({name for name in given if len(request.query.getall(name)) > 1})
        raise Problem(Code.NOT_VALID, f"expected each parameter once, got {', '.join(repeated)} more than once")
    unknown = sorted(set(given) - set(kind.__struct_encode_fields__))
    if unknown:
        known = ", ".join(kind.__struct_encode_fields__) or "none"
        raise Problem(
            Code.NOT_VALID,
            f"expected the parameters {known}, got others",
            errors=[f"no such parameter: `{name[:100]}`" for name in unknown],
        )
    try:
        read = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _not_valid("the query", error) from None
    for field in msgspec.structs.fields(kind):
        # A parameter that may be left out is optional to msgspec, which then reads the word `null` as nothing.
        if field.encode_name in given and getattr(read, field.name) is None:
            raise Problem(Code.NOT_VALID, f"expected a value for `{field.encode_name}`, got null: leave it out")
    return read


def read_path(request: web.Request, name: str) -> Any:
    """The part of the path that a route has in braces, as `PATH_PARAMETERS` types it; raises `Problem(not_valid)`."""
    try:
        return msgspec.convert(request.match_info[name], PATH_PARAMETERS[name], strict=False)
    except msgspec.ValidationError as error:
        raise _not_valid(f"`{name}` in the path", error) from None


def read_session_id(request: web.Request, caller: Caller) -> str:
    """The session that the path names, where the caller may address it.

    Raises:
        Problem: `not_valid` or `wrong_tenant`; the same whether or not there is such a session.
    """
    return caller.require_session(str(read_path(request, "session_id")))


def answer(record: Struct, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """The record as JSON."""
    return web.Response(body=msgspec.json.encode(record), status=status, content_type=JSON, headers=headers)


def _not_valid(what: str, error: msgspec.ValidationError) -> Problem:
    return Problem(Code.NOT_VALID, f"{what} is not as it must be: {error}", errors=[str(error)])
