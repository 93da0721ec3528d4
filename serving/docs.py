"""GET /docs: Swagger UI, from this host alone; `make web` brings its files, and without them the page says so.

Addresses in the page are relative, so that it works under any prefix (`root_path`).
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from serving.page import STATIC, static

router = APIRouter(include_in_schema=False)
ASSETS = tuple(STATIC / "vendor" / name for name in ("swagger-ui-bundle.js", "swagger-ui.css"))


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The operations, to be read and tried."""
    complete = all(asset.is_file() for asset in ASSETS)
    return await static("docs.html" if complete else "docs-missing.html", request)
