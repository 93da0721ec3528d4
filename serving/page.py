"""The page at /, the files it is made of, and the model for those who want no image to leave their device.

The page asks /openapi.json what this server can do and shows only that. Its files are checked with their ETag at every
visit, so that a page and a server of different age never meet.
"""

from __future__ import annotations

import asyncio
import mimetypes
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from emotion_detection.bundle import file_sha256
from serving.errors import NotReady
from serving.problems import documented
from serving.routes import LINEAGE_HEADERS, CurrentModel
from serving.schemas import ModelReference

STATIC = Path(__file__).with_name("static")
RUNTIME = STATIC / "vendor" / "ort.wasm.bundle.min.mjs"
"""ONNX Runtime for browsers; `make web` puts it there where npm is installed."""
_CACHING = {"Cache-Control": "no-cache"}
for _suffix, _kind in {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}.items():
    mimetypes.add_type(_kind, _suffix)  # browsers run nothing else, and some systems' lists are wrong

router = APIRouter(include_in_schema=False)
device_router = APIRouter()
_files = StaticFiles(directory=STATIC)


def routers() -> list[APIRouter]:
    """The page; and the model file, where browsers can be given something to run it with."""
    return [router, *([device_router] if RUNTIME.is_file() else [])]


@router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    """The page."""
    return await static("index.html", request)


@router.api_route("/static/{path:path}", methods=["GET", "HEAD"])
async def static(path: str, request: Request) -> Response:
    """A file of the page."""
    response = await _files.get_response(path, request.scope)
    response.headers.update(_CACHING)
    return response


@device_router.get(
    "/model/model.onnx",
    summary="The model as a file, to be run elsewhere",
    response_class=FileResponse,
    responses={
        200: {
            "headers": LINEAGE_HEADERS,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        304: {"description": "It is the one in If-None-Match"},
        **documented(NotReady),
    },
)
async def model_file(request: Request, model: CurrentModel) -> Response:
    """ONNX: uint8 `image` (N, S, S, C) to float32 `probabilities` (N, K); the very graph that answers here.

    The ETag is the file's SHA-256; the headers say which model it is, and in which precision.
    """
    path = model.engine.graph
    sha256 = model.bundle.info.files[path.name]
    headers = {"ETag": f'"{sha256}"', **_CACHING, **ModelReference.of(model).headers()}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if not await asyncio.to_thread(_is_still, path, sha256):
        raise NotReady(f"{path.name} is no longer on the server's disk, or another one; the model still answers")
    return FileResponse(path, media_type="application/octet-stream", headers=headers)


def _is_still(path: Path, sha256: str) -> bool:
    """Whether a file is what the model was loaded from: the directory may have been written anew since."""
    try:
        return file_sha256(path) == sha256
    except OSError:
        return False
