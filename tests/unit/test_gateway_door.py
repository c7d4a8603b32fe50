"""Who may do what at the door, without a door: callers, keys, rates, origins, and what requests say."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any, cast

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from msgspec import Struct
from redis.exceptions import ConnectionError as RedisDownError

from gateway.access import require_own_origin
from gateway.audit import client_address
from gateway.caller import ANYONE, Caller, Scope
from gateway.database import Database
from gateway.keys import CACHED_S, Keys
from gateway.metrics import Metrics
from gateway.open_streams import OpenStreams
from gateway.parts import Parts
from gateway.problems import Code, Problem, problem_details, unavailable
from gateway.rate_limit import RateLimits
from gateway.reading import read_query
from runtime.settings import GatewaySettings, Settings, SettingsError, load_settings

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ID, SECRET = "0123456789abcdef", "ab" * 32
TOKEN = f"hr_{ID}_{SECRET}"


def test_a_tenants_sessions_are_known_by_their_ids() -> None:
    """The prefix with its colon, and nothing else: no look-up that could tell what there is."""
    acme = Caller("k", "n", "acme", frozenset(Scope))
    assert acme.require_session("acme:1") == "acme:1"
    for other in ("acme", "acme2:1", "ACME:1", "", ":acme:1", "other:acme:"):
        with pytest.raises(Problem) as raised:
            acme.require_session(other)
        assert raised.value.code is Code.WRONG_TENANT
        assert not other or other not in raised.value.detail.replace("`acme:`", "")
    assert ANYONE.require_session("whatever") == "whatever"
    with pytest.raises(Problem):
        acme.require_operator()


def test_a_problem_says_all_that_rfc_9457_asks_for() -> None:
    """Its type, title, status, detail and instance, and a code for programs."""
    details = problem_details(Problem(Code.NOT_VALID, "expected a, got b", errors=["a: no"]), "r1")
    assert msgspec.to_builtins(details) == {
        "type": "/problems/not_valid",
        "title": "The request is not valid",
        "status": 400,
        "detail": "expected a, got b",
        "code": "not_valid",
        "instance": "r1",
        "errors": ("a: no",),
    }


@dataclass
class Table:
    """Stands for the database: one key, and how often it was asked for."""

    row: dict[str, Any] | None = None
    is_away: bool = False
    asked: list[str] = field(default_factory=list)
    written: list[Any] = field(default_factory=list)

    async def fetchrow(self, name: str, key_id: str) -> Any:
        assert name == "find_key"
        self.asked.append(key_id)
        await asyncio.sleep(0)
        if self.is_away:
            raise unavailable("PostgreSQL")
        return self.row if self.row is not None and self.row["id"] == key_id else None

    async def execute(self, name: str, *arguments: Any) -> None:
        assert name == "touch_keys"
        self.written.append(arguments)


def key_row(**changes: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "secret_sha256": sha256(SECRET.encode()).digest(),
        "name": "web",
        "tenant": "acme",
        "scopes": ["sessions:read", "of another version"],
        "requests_per_second": None,
        "expires_at": None,
        "revoked_at": None,
    } | changes


def keys_of(table: Table) -> Keys:
    return Keys(cast("Database", table), lambda: NOW)


async def test_a_key_is_asked_for_once() -> None:
    """Concurrent and later requests share one look-up; scopes that this version does not know are left out."""
    table = Table(key_row(expires_at=NOW + timedelta(seconds=1)))
    keys = keys_of(table)
    found = await asyncio.gather(*(keys.authenticate(TOKEN) for _ in range(10)))
    assert table.asked == [ID]
    assert found[0].caller == Caller(ID, "web", "acme", frozenset({Scope.SESSIONS_READ}))
    await keys.write_uses()
    await keys.write_uses()
    assert table.written == [([ID], [NOW])]
    assert CACHED_S <= 5


@pytest.mark.parametrize(
    ("token", "row"),
    [
        (TOKEN, None),
        (TOKEN, key_row(revoked_at=NOW)),
        (TOKEN, key_row(expires_at=NOW)),
        (f"hr_{ID}_{'cd' * 32}", key_row()),
        (f"hr_{ID}_", key_row()),
        (TOKEN.upper(), key_row()),
        (TOKEN + "\n", key_row()),
        ("", key_row()),
    ],
)
async def test_a_key_that_is_not_valid(token: str, row: dict[str, Any] | None) -> None:
    """Unknown, revoked, expired, wrong or malformed: the same problem in the same words."""
    with pytest.raises(Problem) as raised:
        await keys_of(Table(row)).authenticate(token)
    assert raised.value.code is Code.UNAUTHENTICATED
    assert raised.value.detail == "expected a key that is valid, got one that is not, or not any more"


async def test_a_database_that_is_away() -> None:
    """Nobody new gets in, with 503 and not 401; an open stream goes on; nothing of the outage is remembered."""
    table = Table(key_row(), is_away=True)
    keys = keys_of(table)
    with pytest.raises(Problem) as raised:
        await keys.authenticate(TOKEN)
    assert raised.value.code is Code.UNAVAILABLE
    caller = Caller(ID, "web", "acme", frozenset())
    assert await keys.is_valid(caller)
    table.is_away = False
    assert (await keys.authenticate(TOKEN)).caller.name == "web"
    table.row = key_row(revoked_at=NOW)
    assert await keys.is_valid(ANYONE)
    assert not await keys_of(table).is_valid(caller)


class NoRedis:
    """A Redis that is away."""

    asked = 0

    def register_script(self, text: str) -> Any:
        assert "TIME" in text

        async def take(keys: list[str], args: list[float]) -> bytes:
            del keys, args
            self.asked += 1
            raise RedisDownError("away")

        return take


async def test_without_redis_each_gateway_counts_for_itself() -> None:
    """The bucket is filled at its rate, up to two seconds' worth, and Redis is left alone for a while."""
    now = [100.0]
    redis = NoRedis()
    limits = RateLimits(redis, "headrace:", lambda: now[0])
    assert [(await limits.take("k", 2)).remaining for _ in range(4)] == [3, 2, 1, 0]
    with pytest.raises(Problem) as raised:
        await limits.take("k", 2)
    assert (raised.value.code, raised.value.headers["Retry-After"]) == (Code.TOO_MANY_REQUESTS, "1")
    assert (await limits.take("other", 2)).remaining == 3
    now[0] += 0.5
    assert (await limits.take("k", 2)).remaining == 0
    assert redis.asked == 1
    now[0] += 100
    assert (await limits.take("k", 2)).remaining == 3
    assert redis.asked == 2


def parts_of(**gateway: Any) -> Parts:
    settings = Settings(gateway=GatewaySettings(**gateway))
    nothing: Any = None
    metrics = Metrics()
    return Parts(
        settings=settings,
        catalog=nothing,
        database=nothing,
        redis=nothing,
        redis_prefix="",
        publisher=nothing,
        brokers=nothing,
        feeds=nothing,
        keys=nothing,
        rate_limits=nothing,
        streams=OpenStreams(settings.gateway.streams, metrics),
        metrics=metrics,
    )


def request_with(path: str = "/v1/me", **headers: str) -> web.Request:
    return make_mocked_request("GET", path, {name.replace("_", "-"): value for name, value in headers.items()})


OWN = "http://127.0.0.1:8088"


def test_another_site_may_link_to_the_page() -> None:
    """Whoever follows a link gets the page, which has nothing in it; what it reads is asked for by the page itself."""
    link = {"Host": "127.0.0.1:8088", "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    require_own_origin(request_with("/", **link), parts_of(open=True))
    for path, mode in (("/", "no-cors"), ("/v1/me", "navigate")):
        with pytest.raises(Problem):
            require_own_origin(request_with(path, **{**link, "Sec_Fetch_Mode": mode}), parts_of(open=True))


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({"Host": "127.0.0.1:8088"}, True),
        ({"Host": "localhost:8088", "Origin": "http://localhost:8088"}, True),
        ({"Host": "[::1]:8088", "Origin": "http://[::1]:8088"}, True),
        ({"Host": "127.0.0.1:8088", "Origin": OWN, "Sec_Fetch_Site": "same-origin"}, True),
        ({"Host": "127.0.0.1:8088", "Sec_Fetch_Site": "none"}, True),
        ({"Host": "evil.example"}, False),
        ({"Host": "127.0.0.1.evil.example:8088"}, False),
        ({"Host": "evil.example@127.0.0.1:8088x"}, False),
        ({"Host": ""}, False),
        ({"Host": "127.0.0.1:8088", "Origin": "http://evil.example"}, False),
        ({"Host": "127.0.0.1:8088", "Origin": "null"}, False),
        ({"Host": "127.0.0.1:8088", "Origin": "http://127.0.0.1:9999"}, False),
        ({"Host": "127.0.0.1:8088", "Origin": "https://127.0.0.1:8088"}, False),
        ({"Host": "127.0.0.1:8088", "Sec_Fetch_Site": "cross-site"}, False),
        ({"Host": "127.0.0.1:8088", "Sec_Fetch_Site": "same-site"}, False),
    ],
)
def test_an_open_gateway_answers_its_own_page_only(headers: dict[str, str], is_own: bool) -> None:  # noqa: FBT001
    """A page of another site, whatever its name resolves to, gets nothing; where a key is needed, it has none."""
    request = request_with(**headers)
    require_own_origin(request, parts_of())
    if is_own:
        require_own_origin(request, parts_of(open=True))
        return
    with pytest.raises(Problem) as raised:
        require_own_origin(request, parts_of(open=True))
    assert raised.value.code is Code.FOREIGN_ORIGIN


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example"])
def test_an_open_gateway_is_on_this_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others could reach it, the settings refuse to leave it open."""
    monkeypatch.setenv("HEADRACE_GATEWAY_OPEN", "true")
    monkeypatch.setenv("HEADRACE_GATEWAY_HOST", host)
    with pytest.raises(SettingsError, match="expected a loopback host"):
        load_settings()
    monkeypatch.setenv("HEADRACE_GATEWAY_HOST", "localhost")
    assert load_settings().gateway.open


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "203.0.113.9", None),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "made up, 203.0.113.9", "203.0.113.9"),
        (2, "made up, 203.0.113.9, 10.0.0.1", "203.0.113.9"),
        (2, "203.0.113.9", None),
        (1, "not an address", None),
        (1, "", None),
    ],
)
def test_only_trusted_proxies_are_believed(proxies: int, forwarded: str, address: str | None) -> None:
    """What the client itself wrote into `X-Forwarded-For` is left of what our proxies added."""
    request = request_with(X_Forwarded_For=forwarded)
    assert client_address(request, proxies) == (address or request.remote)


class _Query(Struct, frozen=True, forbid_unknown_fields=True):
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50
    deep: bool = False
    most: int | None = None


def test_parameters_are_checked() -> None:
    """Their types, their bounds, their names, and that each is there once."""
    assert read_query(request_with("/x?limit=7&deep=true"), _Query) == _Query(7, deep=True)
    assert read_query(request_with("/x"), _Query) == _Query()
    for query in (
        "limit=0",
        "limit=x",
        "limit=",
        "limit=1&limit=2",
        "other=1",
        "deep=maybe",
        "limit=1e3",
        "most=null",
        "most=NULL",
    ):
        with pytest.raises(Problem) as raised:
            read_query(request_with(f"/x?{query}"), _Query)
        assert raised.value.code is Code.NOT_VALID


def test_streams_are_bounded() -> None:
    """One more than there may be is refused, as is any when the gateway stops; one that ends makes room."""
    streams = parts_of(streams=1).streams
    with streams.opened("sse"):
        with pytest.raises(Problem) as raised, streams.opened("websocket"):
            pass
        assert raised.value.code is Code.TOO_MANY_STREAMS
    with streams.opened("websocket"):
        assert streams.count == 1
    assert streams.count == 0
    streams.closing.set()
    with pytest.raises(Problem) as raised, streams.opened("sse"):
        pass
    assert raised.value.code is Code.STOPPING
