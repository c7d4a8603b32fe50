"""The console: the static files of `web/`, read once, served from memory.

`/` is the page. All else is below `/console/{version}/`, where the version is a hash over all files: what is there
never changes and is kept by browsers for good, and a new release is seen at once, because the page names its version.
"""

import gzip
import hashlib
from pathlib import Path

from aiohttp import web
from msgspec import Struct

from gateway.problems import Code, Problem

FOLDER = Path(__file__).parent / "web"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served, by the end of its name. Licences and notes beside the files are not."""

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
"""What the page may do: nothing inline, nothing from elsewhere, no text that becomes markup."""
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Vary": "Accept-Encoding",
}
ASK_AGAIN = "no-cache"
NEVER_CHANGES = "public, max-age=31536000, immutable"
VERSION_CHARACTERS = 12
PAGE = "index.html"


class File(Struct, frozen=True):
    """One file, as it is and compressed; the tag is of its content."""

    media_type: str
    body: bytes
    gzipped: bytes
    tag: str


class Pages:
    """All files of a folder, by their path in it, and the version that they are together."""

    def __init__(self, folder: Path = FOLDER) -> None:
        found = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.suffix in MEDIA_TYPES and path.is_file()
        }
        bodies = {name: path.read_bytes() for name, path in found.items()}
        digest = hashlib.sha256()
        for name, body in bodies.items():
            digest.update(f"{name}\0{len(body)}\0".encode() + body)
        self.version = digest.hexdigest()[:VERSION_CHARACTERS]
        bodies[PAGE] = bodies[PAGE].replace(b"{base}", f"/console/{self.version}".encode())
        self.files = {name: _file(found[name].suffix, body) for name, body in bodies.items()}

    async def page(self, request: web.Request) -> web.Response:
        """The one page there is."""
        return _answer(request, self.files[PAGE], ASK_AGAIN)

    async def file(self, request: web.Request) -> web.Response:
        """A file of this version. A page of another version gets it too, but does not keep it.

        Raises:
            Problem: `not_found`.
        """
        file = self.files.get(request.match_info["path"])
        if file is None or file is self.files[PAGE]:
            raise Problem(Code.NOT_FOUND, "expected a file of the console: open `/`")
        return _answer(request, file, NEVER_CHANGES if request.match_info["version"] == self.version else ASK_AGAIN)

    def routes(self) -> tuple[web.RouteDef, ...]:
        """Where the files are; nobody needs a key for them."""
        return (
            web.get("/", self.page),
            web.get("/console/{version:[0-9a-f]{1,64}}/{path:.+}", self.file),
        )


def _file(suffix: str, body: bytes) -> File:
    # Without the time of compression, which would make every start's bytes different.
    return File(MEDIA_TYPES[suffix], body, gzip.compress(body, mtime=0), hashlib.sha256(body).hexdigest()[:16])


def _answer(request: web.Request, file: File, cache: str) -> web.Response:
    compressed = "gzip" in request.headers.get("Accept-Encoding", "")
    # A tag stands for the bytes that are sent, and those of the two encodings differ.
    tag = f'"{file.tag}{"-gz" if compressed else ""}"'
    headers = {**HEADERS, "ETag": tag, "Cache-Control": cache}
    if tag in [given.strip() for given in request.headers.get("If-None-Match", "").split(",")]:
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = file.media_type
    if compressed:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=file.gzipped if compressed else file.body, headers=headers)
