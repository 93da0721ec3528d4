"""POST /webhooks/mlflow: MLflow says that something changed in its registry, and the watcher asks at once.

    export EMOTION_WEBHOOK_SECRET=...                                  # without it, there is no such route
    MlflowClient().create_webhook("server", "https://HOST/webhooks/mlflow", ["model_version_alias.created"], secret=...)

Nothing of what the webhook says is used: the registry is asked as for any other poll. MLflow signs as `Standard
Webhooks <https://www.standardwebhooks.com>`_ do, under header names of its own:

    X-MLflow-Signature: v1,base64(HMAC-SHA256(secret, "{X-MLflow-Delivery-Id}.{X-MLflow-Timestamp}.{body}"))
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

from fastapi import APIRouter, Request
from starlette.datastructures import Headers

from emotion_detection.errors import ImageTooLarge
from serving.context import context_of
from serving.errors import BadSignature, IncompleteBody, InvalidRequest, Overloaded
from serving.problems import documented
from serving.schemas import Accepted

MAX_BYTES = 65_536
TOLERANCE = 300
"""Seconds between the clocks of MLflow and this server, and for which a delivery could be sent once more."""

router = APIRouter()


@router.post(
    "/webhooks/mlflow",
    status_code=202,
    summary="Ask the registry now",
    responses=documented(BadSignature, InvalidRequest, IncompleteBody, Overloaded),
)
async def registry_changed(request: Request) -> Accepted:
    """For MLflow's webhooks, such as `model_version_alias.created`; the signature is required."""
    context = context_of(request)
    secret = context.settings.webhook_secret
    body = await _receive(request)
    verify(secret.get_secret_value() if secret else "", request.headers, body, time.time())
    context.watcher.poll_now()
    context.challenger.poll_now()
    return Accepted(status="accepted")


def verify(secret: str, headers: Headers, body: bytes, now: float) -> None:
    """Do nothing, or fail where MLflow did not sign this body with the secret within the last minutes.

    Args:
        now: seconds since 1970.

    Raises:
        BadSignature: it did not.
    """
    signature, timestamp = headers.get("x-mlflow-signature", ""), headers.get("x-mlflow-timestamp", "")
    signed = f"{headers.get('x-mlflow-delivery-id', '')}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256))
    if not secret or not hmac.compare_digest(signature.encode(), expected):
        raise BadSignature("X-MLflow-Signature is missing, or made with another secret than EMOTION_WEBHOOK_SECRET")
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > TOLERANCE:
        raise BadSignature(f"X-MLflow-Timestamp is more than {TOLERANCE} s away from this server's clock")


async def _receive(request: Request) -> bytes:
    uploads, announced = context_of(request).uploads, request.headers.get("content-length", "").encode("latin-1")
    try:
        body = await uploads.receive_bytes(request.receive, announced, MAX_BYTES)
    except ImageTooLarge:
        raise InvalidRequest(f"more than {MAX_BYTES} bytes; webhooks of MLflow are smaller") from None
    uploads.release(len(body))
    return body
