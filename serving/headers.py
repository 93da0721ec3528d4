"""What browsers are told with every answer.

The page comes from this server and talks to nobody else; WebAssembly is for the model in the browser, blob: for the
camera and for pictures that were chosen. Only /docs needs more: FastAPI's page loads Swagger UI from a CDN and starts
it with a script of its own, which is allowed by its hash.
TLS, and with it Strict-Transport-Security, is the matter of the proxy in front.
"""

from __future__ import annotations

import base64
import hashlib
import re

Header = tuple[bytes, bytes]
_CDN = "https://cdn.jsdelivr.net"
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
_OTHERS: list[Header] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
]


def security_headers(**changes: str) -> list[Header]:
    """For an answer whose Content-Security-Policy has these directives besides the usual ones.

    Args:
        changes: by directive, with `_` for `-`.
    """
    policy = _POLICY | {name.replace("_", "-"): sources for name, sources in changes.items()}
    text = "; ".join(f"{name} {sources}" for name, sources in policy.items())
    return [(b"content-security-policy", text.encode()), *_OTHERS]


SECURITY_HEADERS = security_headers()


def docs_headers(page: bytes) -> list[Header]:
    """For Swagger UI: its CDN, and the scripts that stand in the page itself."""
    scripts = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts)
    return security_headers(
        script_src=f"'self' {_CDN} {hashes}",
        style_src=f"'self' 'unsafe-inline' {_CDN}",
        img_src="'self' data: https://fastapi.tiangolo.com",
    )
