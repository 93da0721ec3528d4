"""GET /docs: Swagger UI. The only page that needs more than this server: it loads the UI from a CDN."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

from serving.headers import docs_headers

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """FastAPI's page, with the headers that let it work."""
    prefix = request.scope.get("root_path", "").rstrip("/")
    page = get_swagger_ui_html(openapi_url=prefix + request.app.openapi_url, title=request.app.title)
    request.scope["visit"].security = docs_headers(bytes(page.body))
    return page
