"""What browsers are told with every answer, and how headers that many answers share cost little.

The page comes from this server and talks to nobody else; WebAssembly is for the model in the browser, blob: for the
camera and for pictures that were chosen; data: for the icons in the style sheet of Swagger UI, on /docs.
TLS, and with it Strict-Transport-Security, is the matter of the proxy in front.
"""

from __future__ import annotations

from functools import cached_property

from starlette.types import Scope

Header = tuple[bytes, bytes]
ADD_LINES = "emotion.add_lines"
"""Extension of ASGI by protocol.py: a function that takes header lines, and puts them into the next answer's head."""


class Block(tuple[Header, ...]):
    """Headers that many answers have in common.

    uvicorn looks at every header of every answer with two regular expressions; of the sixteen of `/detect` eleven are
    always the same, and for a small model that would be a good part of what the event loop does.
    """

    @cached_property
    def lines(self) -> bytes:
        """As they are sent."""
        return b"".join([b"%s: %s\r\n" % header for header in self])

    def added_to(self, headers: list[Header], scope: Scope) -> list[Header]:
        """The headers of the answer that is begun now, with these: as lines, where the server takes them.

        Args:
            scope: of the request.
        """
        add_lines = scope.get("extensions", {}).get(ADD_LINES)
        if add_lines is None:
            return [*headers, *self]
        add_lines(self.lines)
        return headers


_POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'wasm-unsafe-eval'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' blob:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
SECURITY_HEADERS = Block(
    [
        (b"content-security-policy", "; ".join(f"{name} {sources}" for name, sources in _POLICY.items()).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
    ]
)
