"""What browsers are told with every answer.

The page comes from this server and talks to nobody else; WebAssembly is for the model in the browser, blob: for the
camera and for pictures that were chosen; data: for the icons in the style sheet of Swagger UI, on /docs.
TLS, and with it Strict-Transport-Security, is the matter of the proxy in front.
"""

from __future__ import annotations

Header = tuple[bytes, bytes]
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
SECURITY_HEADERS: list[Header] = [
    (b"content-security-policy", "; ".join(f"{name} {sources}" for name, sources in _POLICY.items()).encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
]
