"""Tiny bundles in a real registry."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow

from emotion_detection.bundle import (
    BUNDLE_FILE,
    GOLDEN_FILE,
    BundleInfo,
    file_sha256,
    read_bundle,
    write_bundle_info,
)
from emotion_detection.registry import Registry
from tests.serving.tiny import TinyBundle, write_bundle


def register(uri: str, bundle: TinyBundle, model: str) -> str:
    """Register a bundle; its version."""
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.create_experiment(f"{model}-{bundle.directory.name}")
    run = client.create_run(experiment).info.run_id
    return Registry(model, uri).register(read_bundle(bundle.directory), run).version


def promote(uri: str, model: str, version: str) -> None:
    registry = Registry(model, uri)
    registry.promote(registry.resolve(version))


def with_foreign_golden_faces(directory: Path) -> TinyBundle:
    """All checksums are right, but the answers are those of another model."""
    bundle, other = write_bundle(directory, seed=8), write_bundle(directory.with_name("other"), seed=9)
    shutil.copy(other.directory / GOLDEN_FILE, directory / GOLDEN_FILE)
    info = BundleInfo.model_validate_json((directory / BUNDLE_FILE).read_bytes())
    files = info.files | {GOLDEN_FILE: file_sha256(directory / GOLDEN_FILE)}
    write_bundle_info(directory, info.model_copy(update={"files": files}))
    return bundle
