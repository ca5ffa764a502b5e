"""Who may ask, and what a browser may do with the answer.

On loopback there is no token: whoever can reach it has an account on this machine. Everywhere else every route wants
one, in a cookie that scripts cannot read, or in an `Authorization: Bearer` header. The page is shown only under host
names that are its own, so that a foreign site cannot have its name resolve to this machine and read along.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from importlib.resources import files
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "einsearch_token"
LOGIN = "/login"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src-elem 'self' 'unsafe-inline'; style-src-attr 'unsafe-inline';"
    " img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
"""No script but our own files. plotly.js styles what it draws, which is why styles may be inline."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_READING = ("GET", "HEAD")
_LONGEST_FORM = 4096


def new_token() -> str:
    """A token that nobody can guess."""
    return secrets.token_urlsafe(32)


def is_loopback(host: str) -> bool:
    """Whether a server on this host can be reached from its own machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def trusted_hosts(host: str, more: Iterable[str] = ()) -> frozenset[str]:
    """Names under which the page may be asked for: loopback's, the one it is bound to, and those given."""
    bound = () if host in ("0.0.0.0", "::") else (host,)
    return frozenset({"localhost", "127.0.0.1", "::1", *bound, *more})


class Gate:
    """Every request passes here first, whatever route it is for; `token` is None where none is wanted."""

    def __init__(self, app: ASGIApp, token: str | None, hosts: frozenset[str]) -> None:
        self.app = app
        self.token = token
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or say why not."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        answer = await self._refusal(Request(scope, receive))
        app = self.app if answer is None else answer

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope  # the server leaves the body out itself
        await app(asked, receive, sealed)

    async def _refusal(self, request: Request) -> Response | None:
        """What to answer instead of the page, None where the page may answer."""
        if _hostname(request.headers.get("host", "")) not in self.hosts:
            return PlainTextResponse("this host name is not one of this page's; see --allow-host\n", 400)
        if self.token is not None and request.scope["path"] == LOGIN:
            return await self._login(request)
        if request.method not in _READING:
            return _problem(request, 405, "this page only reads", {"allow": "GET, HEAD"})
        if self.token is not None and not self._known(request.headers):
            return _stranger(request)
        return None

    def _known(self, headers: Headers) -> bool:
        given = [_cookie(headers), headers.get("authorization", "").removeprefix("Bearer ")]
        return any(map(self._same, given))

    def _same(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), (self.token or "").encode())

    async def _login(self, request: Request) -> Response:
        """Take a token from the form or from the link that was printed, and keep it in a cookie."""
        if request.method not in (*_READING, "POST"):
            return _problem(request, 405, "sign in by POST", {"allow": "GET, HEAD, POST"})
        given = await _form_token(request) if request.method == "POST" else request.query_params.get("token")
        if given is None:
            return _stranger(request)
        if not self._same(given.strip()):
            return _stranger(request, wrong=True)
        response = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, given.strip(), httponly=True, samesite="strict", path="/", secure=secure)
        return response


async def _form_token(request: Request) -> str:
    """The token in the body of a form; empty where there is none, or where the body is longer than one."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            return ""
    return parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]


def _stranger(request: Request, wrong: bool = False) -> Response:
    """To somebody without the token: the form that asks for it, never with status 200."""
    if request.scope["path"].startswith("/api/"):
        return JSONResponse({"detail": "a token is wanted: send Authorization: Bearer TOKEN"}, 401)
    text = files("dashboards.web").joinpath("templates/login.html").read_text(encoding="utf-8")
    note = "That is not the token of this server." if wrong else ""
    return HTMLResponse(text.replace("{{ note }}", note), 401)


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _hostname(header: str) -> str:
    """The name in a Host header, without its port; of an IPv6 address without its brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.rpartition(":")[0].lower() if ":" in header else header.lower()


def _problem(request: Request, status: int, text: str, headers: dict[str, str]) -> Response:
    if request.scope["path"].startswith("/api/"):
        return JSONResponse({"detail": text}, status, headers)
    return PlainTextResponse(text + "\n", status, headers)
