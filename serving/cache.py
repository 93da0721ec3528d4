"""Bundles from the registry on this machine's disk: fetched once, verified at every use, the last few kept.

    .cache/serving/emotion-detector/7/               the bundle of version 7
    .cache/serving/emotion-detector/champion.json    which version answered last for the alias `champion`: `LastGood`

With it a server starts without a registry. Several processes and servers may share a cache.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from emotion_detection.bundle import ModelBundle, read_bundle
from emotion_detection.errors import BundleError, EmotionError
from serving.settings import Settings

if TYPE_CHECKING:  # MLflow takes a second to import
    from emotion_detection.versions import VersionInfo


class CacheError(EmotionError):
    """The cache cannot be written."""


class LastGood(BaseModel):
    """The version that answered last for an alias."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: str
    run_id: str | None
    bundle_sha256: str
    """`BundleInfo.digest`"""
    registry: str
    """MLFLOW_TRACKING_URI without name and password: the numbers of another registry mean other models."""
    created: float | None = None
    """`ServedModel.created`"""


class BundleCache:
    """The part of the cache that belongs to one registered model and alias."""

    def __init__(self, settings: Settings) -> None:
        self._directory = settings.cache / settings.model
        self._record = self._directory / f"{settings.alias}.json"
        self._kept = settings.cache_versions

    def last_good(self) -> tuple[LastGood, ModelBundle] | None:
        """What answered last for this alias of this registry, verified; none where there is no such thing.

        Raises:
            BundleError: it was damaged.
        """
        try:
            record = LastGood.model_validate_json(self._record.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise BundleError(f"{self._record}: cannot be read: {error}") from None
        if record.registry != registry_name():
            return None
        bundle = read_bundle(self._directory / record.version)
        if bundle.info.digest() != record.bundle_sha256:
            raise BundleError(f"{bundle.directory}: is another bundle than the one that answered last")
        return record, bundle

    def remember(self, version: str, run_id: str | None, bundle: ModelBundle, created: float | None = None) -> None:
        """Note what answers from now on, for `last_good`.

        Raises:
            CacheError: the cache cannot be written.
        """
        record = LastGood(
            version=version,
            run_id=run_id,
            bundle_sha256=bundle.info.digest(),
            registry=registry_name(),
            created=created,
        )
        with self._locked():
            temporary = self._directory / f".{self._record.name}.tmp"
            temporary.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
            temporary.replace(self._record)

    def fetch(self, version: VersionInfo) -> ModelBundle:
        """The bundle of a version, verified; downloaded where it is not here or was damaged.

        Raises:
            RegistryError: MLflow cannot be reached, or does not have the files.
            BundleError: what came is not the bundle that was registered.
            CacheError: the cache cannot be written.
        """
        from emotion_detection.registry import download_bundle  # noqa: PLC0415  (imports MLflow)

        with self._locked():
            bundle = download_bundle(version, self._directory / version.version)
            os.utime(bundle.directory)
            self._prune()
        return bundle

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with (self._directory / ".lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise CacheError(f"{self._directory}: cannot be written: {error.strerror or error}") from error

    def _prune(self) -> None:
        """Remove the versions used longest ago, and what downloads that were killed left behind."""
        directories = [path for path in self._directory.iterdir() if path.is_dir()]
        newest_first = sorted(directories, key=lambda path: path.stat().st_mtime_ns, reverse=True)
        bundles = [path for path in newest_first if not path.name.startswith(".")]
        kept = {path.name for path in bundles[: self._kept]} | set(self._last_good_versions())
        for path in directories:
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def _last_good_versions(self) -> Iterator[str]:
        for path in self._directory.glob("*.json"):
            try:
                yield LastGood.model_validate_json(path.read_bytes()).version
            except (OSError, ValidationError):
                continue


def registry_name() -> str:
    """`LastGood.registry` for the present environment."""
    return re.sub(r"(?<=://)[^/@]*@", "", os.environ.get("MLFLOW_TRACKING_URI", ""))
