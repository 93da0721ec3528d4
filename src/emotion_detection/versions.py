"""A version of the registered model: what the registry knows of it, and how its bundle is fetched.

download_bundle(resolve_champion("emotion-detector"), Path(".cache/champion"))   -> verified ModelBundle
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.artifacts import download_artifacts

from emotion_detection.bundle import BundleInfo, ModelBundle, read_bundle
from emotion_detection.errors import BundleError
from emotion_detection.mlflow_store import explained

CHAMPION = "champion"
CHALLENGER = "challenger"
DIGEST_TAG = "bundle_sha256"


@dataclass(frozen=True)
class VersionInfo:
    """One version of the registered model."""

    name: str
    """Of the registered model."""
    version: str
    """A whole number, as text."""
    run_id: str | None
    """MLflow run that made it."""
    source: str
    """Where the bundle's files are, as MLflow names it."""
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    """See `version_tags`; after promotion also `promoted_at`, `verdict` and `forced_because`."""
    tracking_uri: str
    created: float
    """When it was registered, seconds since 1970."""

    @property
    def model(self) -> str:
        """Name of the entry in `models` of params.yaml."""
        return self.tags.get("model", "")

    @property
    def is_champion(self) -> bool:
        return CHAMPION in self.aliases


def version_tags(info: BundleInfo) -> dict[str, str]:
    """What MLflow's pages show of a version: origin, figures, and the digest that it is found by."""
    lineage = {key: str(value) for key, value in info.lineage.model_dump().items() if value is not None}
    figures = {key: f"{value:.6g}" for key, value in info.metrics.items()}
    about = {
        "model": info.model,
        "architecture": info.architecture,
        "parameters": str(info.parameters),
        "labels": ", ".join(info.labels),
        "input": f"uint8 N x {info.image_size} x {info.image_size} x {info.channels}",
        DIGEST_TAG: info.digest(),
    }
    return about | figures | lineage


def download_bundle(version: VersionInfo, directory: Path) -> ModelBundle:
    """The bundle of a version, verified; what already stands in `directory` is used if it is that very bundle.

    Raises:
        RegistryError: MLflow cannot be reached, or does not have the files.
        BundleError: what came is not the bundle that was registered.
    """
    digest = version.tags.get(DIGEST_TAG)
    try:
        present = read_bundle(directory)
        if present.info.digest() == digest:
            return present
    except BundleError:
        pass  # absent or damaged: fetched again
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as temporary:
        with explained(version.tracking_uri):
            files = Path(download_artifacts(version.source, dst_path=temporary, tracking_uri=version.tracking_uri))
        if (found := read_bundle(files).info.digest()) != digest:
            raise BundleError(
                f"{version.name} version {version.version}: the bundle's digest is {found}, registered as {digest}; "
                "its files were changed in MLflow: register it again"
            )
        shutil.rmtree(directory, ignore_errors=True)
        files.replace(directory)
    return read_bundle(directory)
