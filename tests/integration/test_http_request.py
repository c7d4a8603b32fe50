"""`http_request` and `web_page_text` against a server on 127.0.0.1, which only the test's own bounds allow."""

import json
import socket
from collections.abc import AsyncIterator, Mapping
from ipaddress import ip_address

import pytest
from aiohttp import web

from agents.tools import Toolbox, ToolContext, ToolFault, ToolOutcome, ToolReturn
from agents.tools.apart import Apart
from agents.tools.fetch_bounds import FetchBounds
from agents.tools.http_hosts import HttpHosts
from agents.tools.http_request import http_request_tool
from agents.tools.secret import Secret
from agents.tools.web_page_text import web_page_text_tool

CONTEXT = ToolContext(call_id="s1/1/2", session_id="s1", agent="assistant")
TOKEN = "token-that-no-model-sees"
ARTICLE = "".join(f"<p>The {n}. paragraph says something that a reader wants to know.</p>" for n in range(9))


class Api:
    """Answers with what it got; `breaks` connections first."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.port = port
        self.requests: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.breaks = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, dict(request.headers), await request.read()))
        if self.breaks:
            self.breaks -= 1
            assert request.transport is not None
            request.transport.abort()
        match request.path:
            case "/echo":
                return web.json_response({"got": request.headers.get("Authorization")})
            case "/away":
                return web.Response(status=302, headers={"Location": "http://169.254.169.254/"})
            case "/page":
                html = f"<html><title>News</title><nav>menu</nav><article><h1>News</h1>{ARTICLE}</article></html>"
                return web.Response(text=html, content_type="text/html")
            case _:
                return web.json_response({"ok": True}, status=201)

    def hosts(self, **headers: str) -> HttpHosts:
        secret = {name: Secret(value) for name, value in headers.items()}
        return HttpHosts(private=frozenset({self.origin}), headers={self.origin: secret})


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    listener = socket.create_server(("127.0.0.1", 0))
    api = Api(listener.getsockname()[1])
    server = web.AppRunner(web.Application(), shutdown_timeout=0.1)
    server.app.router.add_route("*", "/{path:.*}", api.answer)
    await server.setup()
    await web.SockSite(server, listener).start()
    yield api
    await server.cleanup()


async def request(hosts: HttpHosts, method: str, url: str, body: object = None) -> ToolOutcome:
    toolbox = Toolbox([http_request_tool(hosts)])
    arguments = {"method": method, "url": url} | ({} if body is None else {"body": body})
    try:
        return await toolbox.run("http_request", arguments, context=CONTEXT, timeout_s=60)
    finally:
        await toolbox.close()


async def refusal(hosts: HttpHosts, method: str, url: str, body: object = None) -> str:
    outcome = await request(hosts, method, url, body)
    assert isinstance(outcome, ToolFault), outcome
    assert outcome.attempts <= 1
    return outcome.failure.message


async def test_a_request_with_a_body(api: Api) -> None:
    """JSON, with the call's own key, and the operator's header."""
    outcome = await request(api.hosts(Authorization=f"Bearer {TOKEN}"), "POST", f"{api.origin}/orders?x=1", {"a": [1]})

    assert isinstance(outcome, ToolReturn)
    assert outcome.content.startswith(f"HTTP 201 Created\nURL: {api.origin}/orders?x=1\n")
    ((method, path, headers, body),) = api.requests
    assert (method, path, json.loads(body)) == ("POST", "/orders?x=1", {"a": [1]})
    assert headers["Idempotency-Key"] == CONTEXT.call_id
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == f"Bearer {TOKEN}"


async def test_a_secret_that_comes_back_is_left_out(api: Api) -> None:
    """A server may answer with what was sent to it."""
    outcome = await request(api.hosts(Authorization=f"Bearer {TOKEN}"), "GET", f"{api.origin}/echo")

    assert isinstance(outcome, ToolReturn)
    assert TOKEN not in outcome.content
    assert '{"got": "…"}' in outcome.content


async def test_redirects_are_told_and_not_followed(api: Api) -> None:
    """The list of hosts holds for every request."""
    outcome = await request(api.hosts(), "GET", f"{api.origin}/away")

    assert isinstance(outcome, ToolReturn)
    assert outcome.content.startswith("HTTP 302 Found\n")
    assert "Location: http://169.254.169.254/\n" in outcome.content
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "https://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://127.0.0.1:{port}@evil.test/",
        "http://user:pw@127.0.0.1:{port}/",
        "http://127.0.0.1.:{port}/",
        "http://127.0.0.1:{port}.evil.test/",
        "http://evil.test/?http://127.0.0.1:{port}",
        "http://[::ffff:127.0.0.1]:{port}/",
        "//127.0.0.1:{port}/",
        "/orders",
        "file:///etc/passwd",
        "http://",
    ],
)
async def test_other_hosts_are_refused(api: Api, url: str) -> None:
    """Scheme, host and port must all be those that the operator lists."""
    message = await refusal(api.hosts(), "GET", url.format(port=api.port))

    assert "expected" in message
    assert "pw" not in message.replace("passwd", "")
    assert api.requests == []


async def test_a_public_host_may_not_have_an_address_inside(api: Api) -> None:
    """Whoever owns a name cannot make it ours; and metadata services are not even private hosts."""
    public = HttpHosts(public=frozenset({api.origin}))
    metadata = HttpHosts(private=frozenset({"http://169.254.169.254"}))

    assert "is not on the public internet" in await refusal(public, "GET", f"{api.origin}/")
    assert "is not on the public internet" in await refusal(metadata, "GET", "http://169.254.169.254/latest")
    assert api.requests == []


@pytest.mark.parametrize(("method", "sent"), [("GET", 2), ("PUT", 2), ("DELETE", 2), ("POST", 1), ("PATCH", 1)])
async def test_what_may_be_repeated_is_sent_again(api: Api, method: str, sent: int) -> None:
    """A connection that breaks after the request tells nothing about what was done with it."""
    api.breaks = 1
    outcome = await request(api.hosts(), method, f"{api.origin}/x")

    assert len(api.requests) == sent
    assert isinstance(outcome, ToolReturn) == (sent == 2)
    if isinstance(outcome, ToolFault):
        assert "may have taken effect or not" in outcome.failure.message
        assert not outcome.failure.retryable


async def test_a_host_that_is_away_got_nothing() -> None:
    """So the model may send it later."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        origin = f"http://127.0.0.1:{taken.getsockname()[1]}"
    outcome = await request(HttpHosts(private=frozenset({origin})), "POST", f"{origin}/x", {})

    assert isinstance(outcome, ToolFault)
    assert "nothing was sent" in outcome.failure.message
    assert outcome.failure.retryable


async def test_bodies_have_limits(api: Api) -> None:
    """Of their size, and of the methods that have one."""
    assert "expected no body with GET" in await refusal(api.hosts(), "GET", f"{api.origin}/", {"a": 1})
    assert "at most 262,144 bytes" in await refusal(api.hosts(), "POST", f"{api.origin}/", "x" * 300_000)
    assert api.requests == []


async def test_without_hosts_it_says_what_to_set() -> None:
    """The operator learns it at the start, and the model should it call all the same."""
    tool = http_request_tool(HttpHosts())

    assert tool.missing is not None
    assert "HEADRACE_TOOLBOX_HTTP_HOSTS" in tool.missing
    assert "not configured" in await refusal(HttpHosts(), "GET", "https://example.com/")
    assert not Toolbox([tool]).is_idempotent("http_request")


async def page(api: Api, path: str, bounds: FetchBounds | None = None) -> ToolOutcome:
    own = FetchBounds(allow_addresses=frozenset({ip_address("127.0.0.1")}), ports=frozenset({api.port}))
    toolbox = Toolbox([web_page_text_tool(Apart(), bounds=bounds or own)])
    try:
        return await toolbox.run("web_page_text", {"url": f"{api.origin}{path}"}, context=CONTEXT, timeout_s=60)
    finally:
        await toolbox.close()


async def test_the_text_of_a_page(api: Api) -> None:
    """Without its menu; what is no page is given as it is."""
    read = await page(api, "/page")
    raw = await page(api, "/data")

    assert isinstance(read, ToolReturn)
    assert read.content.startswith(f"HTTP 200 OK\nURL: {api.origin}/page\n\nTitle: News\n")
    assert "The 8. paragraph" in read.content
    assert "menu" not in read.content
    assert isinstance(raw, ToolReturn)
    assert raw.content.endswith('{"ok": true}')


async def test_a_page_inside_is_not_read(api: Api) -> None:
    """The same guard as of http_get."""
    outcome = await page(api, "/page", FetchBounds(ports=frozenset({api.port})))

    assert isinstance(outcome, ToolFault)
    assert "is not on the public internet" in outcome.failure.message
    assert api.requests == []
