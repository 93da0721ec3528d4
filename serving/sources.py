"""Where the model comes from: a bundle directory, or an alias in the registry.

    source = open_source(settings)
    source.cached()              what can answer until the registry has been asked
    source.newer(current)        what should answer instead of `current`, verified and warm

What comes back has passed everything: checksums, the graph's contract, and the golden faces.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from emotion_detection.bundle import ModelBundle, read_bundle
from emotion_detection.errors import BundleError, RegistryError
from serving.cache import BundleCache
from serving.engine import Engine
from serving.model import ServedModel
from serving.settings import Settings

if TYPE_CHECKING:  # MLflow takes a second to import and is not needed for a directory, nor for the cache
    from emotion_detection.registry import Registry, VersionInfo

Identity = tuple[str, str | None, str]
"""Version, run and digest: numbers repeat where a registered model is deleted and made again."""


class KnownRefusal(BundleError):
    """The version that was refused before is still the one that should answer; it was not fetched again."""


class Source(Protocol):
    """Gives models; used by one thread."""

    follows: bool
    """Whether there may be another model later."""

    def cached(self) -> ServedModel | None:
        """What this machine has already, if it has anything.

        Raises:
            BundleError: it was damaged, or cannot be run.
        """

    def newer(self, current: ServedModel | None) -> ServedModel | None:
        """The model that should answer; none where that is `current`.

        Raises:
            BundleError: it does not verify, or cannot be run.
            KnownRefusal: that has been said before.
            RegistryError: MLflow cannot be reached, or has no such version.
            CacheError: the disk is full, or may not be written.
        """

    def remember(self, model: ServedModel) -> None:
        """The model answers now: it is what `cached` gives at the next start.

        Raises:
            CacheError: as above.
        """


class DirectorySource:
    """`--bundle DIR`. Read once: whatever becomes of the directory afterwards, restart the server to have it read."""

    follows = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def cached(self) -> None:
        return None

    def newer(self, _: ServedModel | None) -> ServedModel:
        return load_directory(self._settings)

    def remember(self, _: ServedModel) -> None:
        return None


class RegistrySource:
    """An alias, or a number, of the registered model, followed wherever it moves."""

    follows = True

    def __init__(self, settings: Settings) -> None:
        self._settings, self._cache = settings, BundleCache(settings)
        self._registry: Registry | None = None
        self._refused: tuple[Identity, str] | None = None

    def cached(self) -> ServedModel | None:
        found = self._cache.last_good()
        if found is None:
            return None
        record, bundle = found
        engine = open_engine(bundle, self._settings)
        return ServedModel(self._settings.model, record.version, record.run_id, bundle, engine, record.created)

    def newer(self, current: ServedModel | None) -> ServedModel | None:
        version = self._resolve()
        identity = _identity(version)
        if current is not None and (current.version, current.run_id, current.digest) == identity:
            self._refused = None
            return None
        if self._refused is not None and self._refused[0] == identity:
            raise KnownRefusal(self._refused[1])
        try:
            return self._load(version)
        except BundleError as error:
            self._refused = identity, f"version {version.version} is refused: {error}"
            raise type(error)(self._refused[1]) from None

    def remember(self, model: ServedModel) -> None:
        self._cache.remember(model.version, model.run_id, model.bundle, model.created)

    def _load(self, version: VersionInfo) -> ServedModel:
        bundle = self._cache.fetch(version)
        engine = open_engine(bundle, self._settings)
        return ServedModel(self._settings.model, version.version, version.run_id, bundle, engine, version.created)

    def _resolve(self) -> VersionInfo:
        registry, self._registry = self._registry, None
        registry = registry or _connect(self._settings.model)
        version = registry.resolve(self._settings.alias)
        self._registry = registry  # kept for as long as it answers: connecting notices within seconds if it does not
        return version


def load_directory(settings: Settings) -> ServedModel:
    """The model of `settings.bundle`.

    Raises:
        BundleError: it does not verify, or cannot be run.
    """
    assert settings.bundle is not None  # noqa: S101 (for the type checker)
    bundle = read_bundle(settings.bundle)
    version = f"bundle-{bundle.info.digest()[:12]}"
    return ServedModel(bundle.info.model, version, None, bundle, open_engine(bundle, settings))


def open_engine(bundle: ModelBundle, settings: Settings) -> Engine:
    """Load a bundle as the settings say; errors as `Engine`."""
    return Engine(bundle, settings.lone_threads, settings.precision)


def open_source(settings: Settings) -> Source:
    """The one that the settings ask for."""
    return RegistrySource(settings) if settings.bundle is None else DirectorySource(settings)


def _connect(model: str) -> Registry:
    from emotion_detection.mlflow_store import shown, tracking_uri  # noqa: PLC0415
    from emotion_detection.registry import Registry  # noqa: PLC0415

    uri = tracking_uri()
    if not uri.startswith("http") and find_spec("sqlalchemy") is None:
        raise RegistryError(
            f"{shown(uri)}: MLflow's database cannot be read in this environment; start `make ui` and set "
            "MLFLOW_TRACKING_URI=http://127.0.0.1:5000, or set EMOTION_BUNDLE=bundles/NAME"
        )
    return Registry(model, uri)


def _identity(version: VersionInfo) -> Identity:
    from emotion_detection.versions import DIGEST_TAG  # noqa: PLC0415

    return version.version, version.run_id, version.tags.get(DIGEST_TAG, "")
