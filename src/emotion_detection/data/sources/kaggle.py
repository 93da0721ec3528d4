"""Data sets on Kaggle, `kaggle:owner/name` or `kaggle:owner/name/versions/3`, fetched and kept by kagglehub.

Public sets need the network only; private ones also credentials (KAGGLE_USERNAME and KAGGLE_KEY, or
~/.kaggle/kaggle.json). A version that is named and already fetched needs neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kagglehub
import requests
from kagglehub.clients import build_kaggle_client
from kagglehub.exceptions import handle_call
from kagglehub.handle import parse_dataset_handle
from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest  # type: ignore[import-untyped]

from emotion_detection.errors import SourceError

PREFIX = "kaggle:"


def download(source: str) -> Path:
    """Fetch a data set, or find it in kagglehub's cache.

    Returns:
        The folder with its files.

    Raises:
        SourceError: it cannot be fetched; the message says what is missing.
    """
    with _explained(source):
        return Path(kagglehub.dataset_download(source.removeprefix(PREFIX)))


def current_version(source: str) -> int:
    """The version that `download` would fetch.

    Raises:
        SourceError: as `download`.
    """
    with _explained(source):
        handle = parse_dataset_handle(source.removeprefix(PREFIX))
        return int(handle.version) if handle.is_versioned() else _latest_version(handle.owner, handle.dataset)


def _latest_version(owner: str, dataset: str) -> int:
    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = owner, dataset
    with build_kaggle_client() as client:
        answer = handle_call(lambda: client.datasets.dataset_api_client.get_dataset(request))
    return int(answer.current_version_number)


@contextmanager
def _explained(source: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # kagglehub raises kinds of its own, of requests, of zipfile, and plain ones
        raise SourceError(f"{source}: {_reason(error)}; or fetch it by hand and set data.source to its path") from None


def _reason(error: Exception) -> str:
    status = (
        error.response.status_code if isinstance(error, requests.HTTPError) and error.response is not None else None
    )
    if status in (401, 403):
        return f"Kaggle refuses it ({status}); check the name, and set KAGGLE_USERNAME and KAGGLE_KEY if it is private"
    if status == 404:
        return "Kaggle has no such data set; expected kaggle:owner/name as in its address"
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return "Kaggle cannot be reached; check the network"
    if "dataset handle" in str(error):
        return "no name of a data set; expected kaggle:owner/name"
    return f"cannot be fetched from Kaggle ({error})"
