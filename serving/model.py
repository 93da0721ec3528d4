"""The model that answers: what it is, where it comes from, and the one place where it is held.

A `ServedModel` never changes. Whoever answers a request takes the current one from the `ModelSlot` once and
uses it to the end, so that an answer and the version named in it always belong together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

from emotion_detection.bundle import ModelBundle, read_bundle
from emotion_detection.errors import RegistryError
from serving.engine import Engine
from serving.errors import NotReady
from serving.settings import Settings


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A loaded model and its lineage."""

    name: str
    """Registered model; the model's own name where it comes from a directory."""
    version: str
    """Version in the registry; `bundle-` and the start of its digest where it comes from a directory."""
    run_id: str | None
    """MLflow run; none where it comes from a directory."""
    bundle: ModelBundle
    engine: Engine

    @cached_property
    def digest(self) -> str:
        """SHA-256 that names the bundle."""
        return self.bundle.info.digest()

    @property
    def labels(self) -> tuple[str, ...]:
        return self.bundle.info.labels


class ModelSlot:
    """Holds the current model; reading and replacing are atomic."""

    def __init__(self) -> None:
        self._current: ServedModel | None = None
        self.reason = "the model is being loaded"
        """Why there is no model, or why the last attempt at a newer one failed; empty where all is well."""

    def current(self) -> ServedModel:
        """The model to answer with.

        Raises:
            NotReady: none has been loaded yet.
        """
        model = self._current
        if model is None:
            raise NotReady(f"not ready: {self.reason}")
        return model

    def replace(self, model: ServedModel) -> None:
        """From now on, `model` answers; requests that hold the old one end with the old one."""
        self._current, self.reason = model, ""


def load_model(settings: Settings) -> ServedModel:
    """Load, verify and warm the model that the settings ask for.

    Raises:
        BundleError: the bundle does not verify or cannot be run.
        RegistryError: MLflow cannot be reached, or has no such version.
    """
    if settings.bundle is None:
        return _load_registered(settings)
    bundle = read_bundle(settings.bundle)
    version = f"bundle-{bundle.info.digest()[:12]}"
    return ServedModel(bundle.info.model, version, None, bundle, Engine(bundle, settings.lone_threads))


def _load_registered(settings: Settings) -> ServedModel:
    # MLflow takes a second to import and is not needed for a bundle directory.
    from emotion_detection.mlflow_store import shown, tracking_uri  # noqa: PLC0415
    from emotion_detection.registry import Registry, download_bundle  # noqa: PLC0415

    uri = tracking_uri()
    if not uri.startswith("http") and find_spec("sqlalchemy") is None:
        raise RegistryError(
            f"{shown(uri)}: MLflow's database cannot be read in this environment; start `make ui` and set "
            "MLFLOW_TRACKING_URI=http://127.0.0.1:5000, or set EMOTION_BUNDLE=bundles/NAME"
        )
    version = Registry(settings.model).resolve(settings.alias)
    bundle = download_bundle(version, settings.cache / settings.model / version.version)
    return ServedModel(settings.model, version.version, version.run_id, bundle, Engine(bundle, settings.lone_threads))
