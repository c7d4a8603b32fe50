"""`http_get` against real servers on 127.0.0.1, which only the test's own bounds allow, and against misuse."""

import asyncio
import gzip
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address

import pytest
from aiohttp import web
from msgspec.structs import replace

from agents.tools import Toolbox, ToolContext, ToolFault, ToolReturn
from agents.tools.fetch_bounds import FetchBounds, Resolve
from agents.tools.http_get import http_get_tool
from schemas.failure import FailureCode

LOOPBACK = ip_address("127.0.0.1")
MIB = 1 << 20


class Site:
    """A web server on this machine, and how often each path was asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.bounds = FetchBounds(allow_addresses=frozenset({LOOPBACK}), ports=frozenset({port}), timeout_s=5)
        self.requests: list[web.Request] = []
        self.pages: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def serve(self, path: str, response: Callable[[], web.Response]) -> str:
        """Answer `path` with a fresh response each time; gives its URL."""

        async def page(_: web.Request) -> web.StreamResponse:
            return response()

        self.pages[path] = page
        return self.url(path)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return await self.pages[request.path](request)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    listener = socket.create_server(("127.0.0.1", 0))
    site = Site(listener.getsockname()[1])
    server = web.AppRunner(web.Application(), shutdown_timeout=0.1)
    server.app.router.add_get("/{path:.*}", site.answer)
    await server.setup()
    await web.SockSite(server, listener).start()
    yield site
    await server.cleanup()


async def get(url: str, bounds: FetchBounds | None = None, resolve: Resolve | None = None) -> ToolReturn | ToolFault:
    toolbox = Toolbox([http_get_tool(bounds=bounds, resolve=resolve)])
    try:
        context = ToolContext(call_id="c", session_id="s", agent="a")
        return await toolbox.run("http_get", {"url": url}, context=context, timeout_s=30)
    finally:
        await toolbox.close()


async def content(url: str, bounds: FetchBounds) -> str:
    outcome = await get(url, bounds)
    assert isinstance(outcome, ToolReturn), outcome
    return outcome.content


async def refusal(url: str, bounds: FetchBounds | None = None, resolve: Resolve | None = None) -> str:
    outcome = await get(url, bounds, resolve)
    assert isinstance(outcome, ToolFault), outcome
    assert outcome.failure.code is FailureCode.TOOL_ERROR, outcome
    return outcome.failure.message


def names(**hosts: list[str]) -> Resolve:
    """A fake of the system's look-up, by the first label of the name."""

    async def resolve(host: str, port: int) -> list[str]:
        assert port > 0
        return hosts[host.split(".", maxsplit=1)[0]]

    return resolve


async def test_status_type_and_text(site: Site) -> None:
    """What the model reads of a page."""
    url = site.serve("/page", lambda: web.Response(text="<p>Grüße</p>", content_type="text/html"))

    assert await content(url, site.bounds) == (
        f"HTTP 200 OK\nURL: {url}\nContent-Type: text/html; charset=utf-8\n\n<p>Grüße</p>"
    )


async def test_an_error_status_is_an_answer(site: Site) -> None:
    """The model sees what the server says about the mistake."""
    url = site.serve("/gone", lambda: web.json_response({"error": "no such city"}, status=404))

    answer = await content(url, site.bounds)

    assert answer.startswith("HTTP 404 Not Found\n")
    assert answer.endswith('{"error": "no such city"}')


async def test_an_empty_answer_has_no_type(site: Site) -> None:
    """204 is not refused for want of a text type."""
    url = site.serve("/empty", lambda: web.Response(status=204))

    assert (await content(url, site.bounds)).startswith("HTTP 204 No Content\n")


@pytest.mark.parametrize(
    ("body", "declared", "text"),
    [
        ("naïve €".encode("cp1252"), "text/plain; charset=iso-8859-1", "naïve €"),
        ("日本".encode("shift_jis"), "text/plain; charset=Shift_JIS", "日本"),
        ("hi".encode("utf-16"), "text/plain; charset=utf-16", "hi"),
        (b"\xef\xbb\xbfhi", "application/problem+json", "hi"),
        (b"caf\xe9", "text/plain", "caf\ufffd"),
        (b"plain", "text/plain; charset=punycode", "plain"),
        (b"plain", "text/plain; charset=no-such", "plain"),
        (b"uryyb", "text/plain; charset=rot13", "uryyb"),
    ],
)
async def test_character_sets(site: Site, body: bytes, declared: str, text: str) -> None:
    """Those of the web are honoured; anything else is read as UTF-8."""
    url = site.serve("/text", lambda: web.Response(body=body, headers={"Content-Type": declared}))

    assert (await content(url, site.bounds)).partition("\n\n")[2] == text


@pytest.mark.parametrize("kind", ["image/png", "application/pdf", "application/octet-stream", "application/zip"])
async def test_binary_types_are_refused(site: Site, kind: str) -> None:
    """A model can do nothing with them."""
    url = site.serve("/file", lambda: web.Response(body=b"\x89PNG", content_type=kind))

    assert f"got HTTP 200 OK with Content-Type {kind}" in await refusal(url, site.bounds)


async def test_binary_under_a_text_type_is_refused(site: Site) -> None:
    """The server's word is not enough."""
    url = site.serve("/file", lambda: web.Response(body=b"PK\x03\x04\0\0", content_type="text/plain"))

    assert "binary body" in await refusal(url, site.bounds)


async def test_redirects_are_followed_and_the_last_address_is_told(site: Site) -> None:
    """Relative ones too; cookies that are set on the way are not kept."""
    start = site.serve(
        "/a", lambda: web.Response(status=302, headers={"Location": "b?x=1#part", "Set-Cookie": "id=1; Path=/"})
    )
    site.serve("/b", lambda: web.Response(status=307, headers={"Location": site.url("/c")}))
    site.serve("/c", lambda: web.Response(text="there"))

    answer = await content(start, site.bounds)

    assert f"URL: {site.url('/c')}\n" in answer
    assert answer.endswith("there")
    assert [request.path_qs for request in site.requests] == ["/a", "/b?x=1", "/c"]
    assert all("Cookie" not in request.headers for request in site.requests)


async def test_endless_redirects_end(site: Site) -> None:
    """One request and five redirects."""
    url = site.serve("/loop", lambda: web.Response(status=302, headers={"Location": "/loop"}))

    assert "at most 5 redirects" in await refusal(url, site.bounds)
    assert len(site.requests) == 6


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2:{port}/secret",
        "http://localhost:{port}/secret",
        "http://[::1]:{port}/secret",
        "http://[::ffff:127.0.0.2]:{port}/secret",
        "http://169.254.169.254:{port}/latest/meta-data/",
        "//10.0.0.1:{port}/secret",
    ],
)
async def test_a_redirect_to_the_inside_is_refused(site: Site, target: str) -> None:
    """The second address is checked like the first."""
    location = target.format(port=site.port)
    url = site.serve("/a", lambda: web.Response(status=302, headers={"Location": location}))

    async def inside(host: str, port: int) -> list[str]:
        assert (host, port) == ("localhost", site.port)
        return ["127.0.0.1", "::1"]

    assert "is not on the public internet" in await refusal(url, site.bounds, inside)
    assert [request.path for request in site.requests] == ["/a"]


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "data:text/plain,x"]
)
async def test_a_redirect_to_another_scheme_is_refused(site: Site, target: str) -> None:
    """As a URL of such a scheme is."""
    url = site.serve("/a", lambda: web.Response(status=302, headers={"Location": target}))

    assert "begins with http:// or https://" in await refusal(url, site.bounds)


MISUSE = """
    http://127.0.0.1/ http://127.0.0.1./ http://0.0.0.0/ http://0/ http://2130706433/ http://017700000001/
    http://0177.0.0.1/ http://127.1/ http://0x7f000001/ http://0x7f.1/ http://①②⑦.⓪.⓪.①/ http://localhost/
    http://localhost./ http://10.0.0.1/ http://169.254.169.254/latest/meta-data/ http://[::1]/ http://[::]/
    http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/ http://[64:ff9b::7f00:1]/ http://[2002:7f00:1::]/
    http://[fe80::1%25lo]/ http://user:pw@1.1.1.1/ http://user@1.1.1.1/ ftp://user:pw@1.1.1.1/ http://user:pw@[::1
    http://1.1.1.1:22/ http://1.1.1.1:0/ https://1.1.1.1:9092/ file:///etc/passwd ftp://1.1.1.1/ //1.1.1.1/ 1.1.1.1
    http:///etc/passwd http:// http://[::1 http://1.1.1.1:port/ http://a..b/
"""


@pytest.mark.parametrize("url", [*MISUSE.split(), f"http://{'a' * 70}.test/", "http://exa mple.test/", "http://\0/"])
async def test_misuse_is_refused_before_anything_is_sent(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the default bounds, and the system's own look-up of names; a connection would fail the test."""
    connected: list[object] = []

    async def connect(_: object, __: socket.socket, address: object) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(type(asyncio.get_running_loop()), "sock_connect", connect)

    message = await refusal(url)

    assert connected == []
    assert any(word in message for word in ("expected", "not on the public internet", "no address of the host"))
    assert "pw" not in message.replace("passwd", "")


async def test_a_name_for_the_inside_is_refused(site: Site) -> None:
    """One inside address among public ones is enough, and the message does not tell which it is."""
    for addresses in (["10.1.2.3"], ["1.1.1.1", "10.1.2.3"], ["::ffff:10.1.2.3"], ["not an address"], []):
        message = await refusal(site.url("/", "intranet.test"), site.bounds, names(intranet=addresses))
        assert "`intranet.test` is not on the public internet" in message
        assert "10.1.2.3" not in message


async def test_a_name_is_resolved_once_and_connected_to_as_checked(site: Site) -> None:
    """A name that changes its address between check and connection gains nothing: there is no second look-up."""
    site.serve("/", lambda: web.Response(text="first"))
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])

    async def rebinding(_: str, __: int) -> list[str]:
        return next(answers)

    outcome = await get(site.url("/", "rebind.test"), site.bounds, rebinding)

    assert isinstance(outcome, ToolReturn)
    assert next(answers) == ["127.0.0.2"]
    assert site.requests[0].host == f"rebind.test:{site.port}"


async def test_the_socket_is_the_last_gate(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a check of the URL ever miss an address, no connection is made to it all the same."""
    monkeypatch.setattr("agents.tools.http_fetch.check_url", lambda *_: None)
    site.serve("/", lambda: web.Response(text="inside"))

    assert "the address is not public" in await refusal(
        site.url("/"), replace(site.bounds, allow_addresses=frozenset())
    )
    assert site.requests == []


async def test_a_proxy_of_the_environment_is_not_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would resolve and connect past every check."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    url = site.serve("/", lambda: web.Response(text="direct"))

    assert (await content(url, site.bounds)).endswith("direct")


async def test_a_huge_body_is_read_up_to_the_limit(site: Site) -> None:
    """The server cannot send what nobody reads."""
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        for _ in range(1_000):
            await response.write(b"x" * MIB)
            sent += 1
        return response

    site.pages["/"] = endless

    answer = await content(site.url("/"), site.bounds)

    assert sent < 20
    assert "[cut: the first 50,000 of 1,048," in answer


async def test_a_gzip_bomb_does_not_go_off(site: Site) -> None:
    """128 MiB in 600 KB: a few MiB of memory, as no more of it is unpacked than is read."""
    bomb = gzip.compress(bytes(MIB).replace(b"\0", b"x") * 128, compresslevel=1)
    url = site.serve(
        "/", lambda: web.Response(body=bomb, headers={"Content-Type": "text/plain", "Content-Encoding": "gzip"})
    )
    await content(site.serve("/warm", lambda: web.Response(text="imports")), site.bounds)
    tracemalloc.start()
    try:
        answer = await content(url, site.bounds)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert "[cut: the first 50,000 of 1,048," in answer
    assert peak < 32 * MIB


async def test_a_body_that_trickles_is_given_up(site: Site) -> None:
    """The time is that of the whole request, not of the pause between two bytes."""

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.02)

    site.pages["/"] = trickle

    assert "gave no complete answer within 0.3 s" in await refusal(site.url("/"), replace(site.bounds, timeout_s=0.3))


async def test_a_name_that_never_resolves_is_given_up(site: Site) -> None:
    """Looking up counts as well."""

    async def silent(_: str, __: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    message = await refusal(site.url("/", "slow.test"), replace(site.bounds, timeout_s=0.1), silent)

    assert "gave no complete answer within 0.1 s" in message


async def test_a_server_that_is_not_there_is_tried_twice() -> None:
    """The failure is of the kind that passes."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    bounds = FetchBounds(allow_addresses=frozenset({LOOPBACK}), ports=frozenset({port}))

    outcome = await get(f"http://127.0.0.1:{port}/", bounds)

    assert isinstance(outcome, ToolFault)
    assert outcome.attempts == 2
    assert outcome.failure.retryable
    assert "cannot fetch" in outcome.failure.message


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nshort",
        b"",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
    ],
)
async def test_a_server_that_does_not_speak_http(raw: bytes) -> None:
    """Broken answers are failures, not exceptions."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        bounds = FetchBounds(allow_addresses=frozenset({LOOPBACK}), ports=frozenset({port}), timeout_s=5)
        message = await refusal(f"http://127.0.0.1:{port}/", bounds)

    assert "cannot fetch" in message
