"""Requests to addresses that are allowed: public ones, unless the bounds say otherwise.

A name is resolved once, every address that it has is checked, and the connection goes to a checked address: a name that
has another address a moment later gains nothing. The socket is the last gate, whatever the URL looked like.
"""

import asyncio
import codecs
import errno
import re
import socket
from ipaddress import ip_address
from typing import Any, NoReturn

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct
from yarl import URL

from agents.tools.fetch_bounds import FetchBounds, Resolve
from agents.tools.port import ToolError
from agents.tools.public_address import parse_address

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TEXT_TYPE = re.compile(
    r"text/.+|application/(.+\+)?(json|xml|yaml)|application/"
    r"(x-ndjson|jsonl|json-seq|javascript|x-javascript|ecmascript|x-yaml|toml|graphql|sql|x-sh|x-www-form-urlencoded)|"
    r".+\+(json|xml|yaml)"
)
_CHARSET = re.compile(
    r"ascii|utf-(8|16|32)(-[lb]e)?|utf-8-sig|iso8859-\d+|cp125\d|cp(437|85\d|866|874|932|949|950)|koi8-[rtu]|mac-\w+|"
    r"shift_jis\w*|euc_\w+|iso2022_\w+|gb\w+|big5\w*|johab|hz|tis-620"
)
"""Character sets of the web. Python knows more codecs, among them slow ones (punycode is quadratic)."""
_WIDE_CHARSETS = ("utf-16", "utf-32")


class Answer(Struct, frozen=True):
    """What a server answered; `text` is decoded, and at most as long as the bounds allow."""

    status: str
    url: str
    content_type: str
    location: str | None
    text: str
    is_cut: bool

    def __str__(self) -> str:
        location = f"Location: {self.location}\n" if self.location is not None else ""
        return f"{self.status}\nURL: {self.url}\nContent-Type: {self.content_type}\n{location}\n{self.text}"


async def fetch(url: str, bounds: FetchBounds, resolve: Resolve) -> Answer:
    """What a GET is answered in the end, after redirects.

    Raises:
        ToolError: the address is refused, or there is no text to be had; the message is for the model.
    """
    try:
        async with asyncio.timeout(bounds.timeout_s):
            return await _follow(parse_url(url), bounds, resolve)
    except TimeoutError as error:
        raise ToolError(
            f"`{url[:200]}` gave no complete answer within {bounds.timeout_s:g} s: try another source"
        ) from error
    except aiohttp.ClientError as error:
        _raise_failed(url, error)


def _raise_failed(url: str, error: aiohttp.ClientError) -> NoReturn:
    certificate = isinstance(error, aiohttp.ClientSSLError)
    for_now = isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError) and not certificate
    raise ToolError(
        f"cannot fetch `{url[:200]}`: {type(error).__name__}: {error}"[:1_000], retryable=for_now
    ) from error


def guarded_session(bounds: FetchBounds, resolve: Resolve, accept: str) -> aiohttp.ClientSession:
    """Connects to addresses that the bounds allow, and to no others; without cookies, proxies and redirects."""
    connector = aiohttp.TCPConnector(
        resolver=_CheckedResolver(bounds, resolve),
        use_dns_cache=False,
        force_close=True,
        socket_factory=lambda info: _checked_socket(info, bounds),
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"User-Agent": "headrace-http_get", "Accept-Encoding": "gzip, deflate", "Accept": accept},
    )


async def _follow(url: URL, bounds: FetchBounds, resolve: Resolve) -> Answer:
    async with guarded_session(bounds, resolve, "text/*, */*;q=0.5") as session:
        for _ in range(bounds.max_redirects + 1):
            check_url(url, bounds)
            async with session.get(url, allow_redirects=False) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    return await read_answer(response, bounds)
            url = parse_url(location, url)
    raise ToolError(f"expected at most {bounds.max_redirects} redirects, got more, the last to `{_shown(str(url))}`")


def parse_url(text: str, origin: URL | None = None) -> URL:
    try:
        url = URL(text.strip())
        return url if origin is None else origin.join(url)
    except ValueError as error:
        raise ToolError(f"expected a URL, such as `https://example.com/page`, got `{_shown(text)}`") from error


def _shown(url: str) -> str:
    """Without user name and password, which must not reach a transcript or a log."""
    return re.sub(r"//[^/]*@", "//…@", url)[:200]


def check_url(url: URL, bounds: FetchBounds) -> None:
    """Raises ToolError where the address itself tells that it may not be reached."""
    host = url.raw_host
    if url.scheme not in ("http", "https") or not host:
        raise ToolError(f"expected a URL that begins with http:// or https:// and a host, got `{_shown(str(url))}`")
    if "@" in url.raw_authority:
        raise ToolError("expected a URL without user name and password, got one with: leave out what is before the `@`")
    if url.port not in bounds.ports:
        ports = " or ".join(str(port) for port in sorted(bounds.ports))
        raise ToolError(f"expected port {ports}, got {url.port}: other ports are not allowed")
    address = parse_address(host)
    if address is None and (":" in host or host.replace(".", "").isdigit()):
        raise ToolError(f"expected a host name or an address such as `203.0.113.7`, got `{host[:200]}`")
    if address is not None and not bounds.allows(address):
        raise _not_public(host)


def _not_public(host: str) -> ToolError:
    # Without the address that a name has: it would tell of the network inside.
    return ToolError(f"`{host[:200]}` is not on the public internet, and nothing else may be fetched: use a public URL")


class _CheckedResolver(AbstractResolver):
    """All addresses of a name, or a refusal if one of them is not public."""

    def __init__(self, bounds: FetchBounds, resolve: Resolve) -> None:
        self._bounds = bounds
        self._resolve = resolve

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp's interface
    ) -> list[ResolveResult]:
        try:
            texts = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise ToolError(
                f"there is no address of the host `{host[:200]}`: check its spelling",
                retryable=isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN,
            ) from error
        addresses = [parse_address(text) for text in texts]
        if not addresses or any(address is None or not self._bounds.allows(address) for address in addresses):
            raise _not_public(host)
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address is not None and address.version == 4 else socket.AF_INET6,  # noqa: PLR2004 - the number is the name
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _checked_socket(info: tuple[Any, ...], bounds: FetchBounds) -> socket.socket:
    """The socket for the connection to `info`, an entry as of getaddrinfo."""
    family, kind, protocol, _, sockaddr = info
    if not bounds.allows(ip_address(sockaddr[0])):
        raise PermissionError(errno.EACCES, "the address is not public")
    return socket.socket(family=family, type=kind, proto=protocol)


async def read_answer(response: aiohttp.ClientResponse, bounds: FetchBounds) -> Answer:
    """The text of a response; raises ToolError where it has another body."""
    kind = response.content_type.lower() if "Content-Type" in response.headers else "none"
    status = f"HTTP {response.status} {(response.reason or '')[:100]}".rstrip()
    body = bytearray()
    is_text = _TEXT_TYPE.fullmatch(kind) is not None
    async for chunk in response.content.iter_any():
        body += chunk
        if not is_text or len(body) > bounds.max_body_bytes:
            break
    if body and not is_text:
        raise ToolError(f"expected text (HTML, JSON, XML, plain text …), got {status} with Content-Type {kind[:100]}")
    charset = _charset(response)
    if b"\0" in body and not charset.startswith(_WIDE_CHARSETS):
        raise ToolError(f"expected text, got {status} with Content-Type {kind[:100]} and a binary body")
    text = bytes(body[: bounds.max_body_bytes]).decode(charset, "replace").removeprefix("\ufeff")
    is_cut = len(body) > bounds.max_body_bytes
    if is_cut:
        text += f"\n[cut: only the first {bounds.max_body_bytes:,} bytes were read]"
    location = response.headers.get("Location") if response.status in _REDIRECTS else None
    declared = response.headers.get("Content-Type", "none")[:200]
    return Answer(status, str(response.url), declared, location and _shown(location), text, is_cut)


def _charset(response: aiohttp.ClientResponse) -> str:
    """Python's name of the declared character set; UTF-8 where none is declared that is in use on the web."""
    try:
        name = codecs.lookup(response.charset or "utf-8").name
    except (LookupError, ValueError):
        return "utf-8"
    # Browsers read both as Windows-1252, because so many pages that say so are.
    if name in ("iso8859-1", "ascii"):
        return "cp1252"
    return name if _CHARSET.fullmatch(name) else "utf-8"
