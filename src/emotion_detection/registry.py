"""The model registry: register a bundle, find it by alias or number, move the alias `champion`, go back.

    registry = Registry("emotion-detector")
    registry.resolve("champion")           -> VersionInfo
    registry.rollback()                    -> VersionInfo of the previous champion

A version is a ModelBundle among the artifacts of its run. The tag `champion_history` of the registered model
lists all champions, the present one last. Needs no more than mlflow-skinny: the server uses it too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from emotion_detection.bundle import ModelBundle
from emotion_detection.errors import NoSuchVersion, RegistryError
from emotion_detection.mlflow_store import connect, explained, if_any, shown, tracking_uri
from emotion_detection.versions import CHALLENGER, CHAMPION, DIGEST_TAG, VersionInfo, download_bundle, version_tags

__all__ = ["Registry", "VersionInfo", "download_bundle", "resolve_champion"]

PREVIOUS = "previous"
HISTORY_TAG = "champion_history"
HISTORY_LENGTH = 100


class Registry:
    """One registered model at one MLflow server or database.

    Every method raises RegistryError where MLflow does not answer or refuses.
    """

    def __init__(self, model: str, uri: str | None = None) -> None:
        """Connect.

        Args:
            model: name of the registered model.
            uri: of MLflow; by default `mlflow_store.tracking_uri()`.
        """
        self.model = model
        self.uri = uri or tracking_uri()
        self._client = connect(self.uri)

    def versions(self) -> list[VersionInfo]:
        """All versions, newest first; none where nothing has been registered yet."""
        with explained(self.uri):
            return self._search(f"name = '{self.model}'")

    def find(self, digest: str) -> VersionInfo | None:
        """The version that holds the bundle with this `BundleInfo.digest`."""
        with explained(self.uri):
            found = self._search(f"name = '{self.model}' and tags.{DIGEST_TAG} = '{digest}'")
        return found[0] if found else None

    def resolve(self, reference: str) -> VersionInfo:
        """A version by its number or alias.

        Raises:
            NoSuchVersion: there is none; the message says what there is.
        """
        found = self._lookup(reference)
        if found is None:
            raise NoSuchVersion(self._no_such(reference))
        return found

    def champion(self) -> VersionInfo | None:
        """The version that serves, if one has been promoted."""
        return self._lookup(CHAMPION)

    def register(self, bundle: ModelBundle, run_id: str, description: str = "") -> VersionInfo:
        """Make the bundle a version; the version that already holds it, where there is one.

        Args:
            run_id: MLflow run that the bundle's files are stored with.
            description: Markdown.
        """
        digest = bundle.info.digest()
        existing = self.find(digest)
        if existing is not None:
            return existing
        with explained(self.uri):
            path = f"bundles/{digest[:16]}"  # a run may be exported more than once; versions must not change
            self._client.log_artifacts(run_id, str(bundle.directory), path)
            self._ensure_model()
            created = self._client.create_model_version(
                self.model,
                source=f"{self._client.get_run(run_id).info.artifact_uri}/{path}",
                run_id=run_id,
                tags=version_tags(bundle.info),
                description=description,
            )
            return self._info(created)

    def promote(self, version: VersionInfo, tags: Mapping[str, str] | None = None) -> None:
        """Make a version champion; the one before becomes `previous`, and it challenges nobody any more.

        Args:
            tags: kept with the version: the verdict, or the reason for doing without.
        """
        with explained(self.uri):
            history = self._history()
            self._tag(version.version, {**(tags or {}), "promoted_at": _now()})
            # The alias first: were we killed before the history is written, it would be repaired from the alias.
            self._client.set_registered_model_alias(self.model, CHAMPION, version.version)
            self._remember([*history, version.version])
            if CHALLENGER in version.aliases:
                self._client.delete_registered_model_alias(self.model, CHALLENGER)

    def challenge(self, version: VersionInfo) -> None:
        """Have servers try a version beside the champion."""
        with explained(self.uri):
            self._client.set_registered_model_alias(self.model, CHALLENGER, version.version)

    def withdraw(self) -> VersionInfo | None:
        """Have nothing tried any more; what was, if anything."""
        challenger = self._lookup(CHALLENGER)
        if challenger is not None:
            with explained(self.uri):
                self._client.delete_registered_model_alias(self.model, CHALLENGER)
        return challenger

    def rollback(self) -> VersionInfo:
        """Make the champion before this one champion again; repeated, it goes further back.

        Raises:
            RegistryError: there is no earlier one.
        """
        with explained(self.uri):
            champion, history = self.champion(), self._history()
            earlier = history[:-1] if champion else history  # a deleted champion is not in its history any more
            if not earlier:
                raise RegistryError(
                    f"{self.model}: there is no earlier champion to go back to; `emotion promote VERSION` chooses one"
                )
            if champion:
                self._tag(champion.version, {"rolled_back_at": _now()})
            self._remember(earlier)
            self._client.set_registered_model_alias(self.model, CHAMPION, earlier[-1])
            return self.resolve(earlier[-1])

    def tag(self, version: VersionInfo, tags: Mapping[str, str]) -> None:
        """Keep something with a version."""
        with explained(self.uri):
            self._tag(version.version, tags)

    def keep_json(self, version: VersionInfo, content: Mapping[str, Any], file: str) -> None:
        """Keep a JSON file with the run of a version."""
        if version.run_id is not None:
            with explained(self.uri):
                self._client.log_dict(version.run_id, dict(content), file)

    def run(self, run_id: str) -> Run | None:
        """A run that has not been deleted."""
        with explained(self.uri):
            found = if_any(lambda: self._client.get_run(run_id))
            return found if found is not None and found.info.lifecycle_stage == "active" else None

    def runs(self, experiment: str, limit: int) -> list[Run]:
        """The latest runs of models in an experiment, newest first."""
        with explained(self.uri):
            found = self._client.get_experiment_by_name(experiment)
            models = "tags.model LIKE '%'"  # there are also runs of comparisons
            return list(self._client.search_runs([found.experiment_id], models, max_results=limit)) if found else []

    def _search(self, query: str) -> list[VersionInfo]:
        found: list[ModelVersion] = []
        token: str | None = ""
        while token is not None:
            page = self._client.search_model_versions(query, order_by=["version_number DESC"], page_token=token or None)
            found += page
            token = page.token or None
        return self._with_aliases(found) if found else []

    def _with_aliases(self, versions: list[ModelVersion]) -> list[VersionInfo]:
        """What a search finds comes without aliases."""
        aliases = self._client.get_registered_model(self.model).aliases
        infos = [self._info(version) for version in versions]
        return [
            replace(
                info, aliases=tuple(sorted(alias for alias, version in aliases.items() if str(version) == info.version))
            )
            for info in infos
        ]

    def _lookup(self, reference: str) -> VersionInfo | None:
        with explained(self.uri):
            if reference.isdecimal():
                found = if_any(lambda: self._client.get_model_version(self.model, reference))
            else:
                found = if_any(lambda: self._client.get_model_version_by_alias(self.model, reference))
            return self._info(found) if found else None

    def _info(self, version: ModelVersion) -> VersionInfo:
        return VersionInfo(
            name=version.name,
            version=str(version.version),
            run_id=version.run_id or None,
            source=version.source or "",
            aliases=tuple(sorted(version.aliases)),
            tags=dict(version.tags),
            tracking_uri=self.uri,
            created=version.creation_timestamp / 1000,
        )

    def _ensure_model(self) -> RegisteredModel:
        model = if_any(lambda: self._client.get_registered_model(self.model))
        try:
            return model or self._client.create_registered_model(self.model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._client.get_registered_model(self.model)

    def _history(self) -> list[str]:
        """All champions that have not been deleted, the present one last if there is one."""
        model = self._ensure_model()
        history: list[str] = json.loads(model.tags.get(HISTORY_TAG, "[]"))
        champion = model.aliases.get(CHAMPION)
        if champion is not None and history[-1:] != [str(champion)]:  # moved by hand, or we were killed
            history.append(str(champion))
        present = {version.version for version in self.versions()}
        return _without_repeats(version for version in history if version in present)

    def _remember(self, champions: list[str]) -> None:
        history = _without_repeats(champions)
        kept = json.dumps(history[-HISTORY_LENGTH:])
        self._client.set_registered_model_tag(self.model, HISTORY_TAG, kept)
        if len(history) > 1:
            self._client.set_registered_model_alias(self.model, PREVIOUS, history[-2])
        else:
            if_any(lambda: self._client.delete_registered_model_alias(self.model, PREVIOUS))

    def _tag(self, version: str, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._client.set_model_version_tag(self.model, version, key, value)

    def _no_such(self, reference: str) -> str:
        versions = self.versions()
        where = f"MLflow at {shown(self.uri)}: {self.model}"
        if not versions:
            return f"{where} has no versions yet; `emotion run` trains, registers and promotes"
        names = [
            " ".join([version.version, *(f"@{alias}" for alias in version.aliases)]) for version in reversed(versions)
        ]
        kind = "version" if reference.isdecimal() else "alias"
        hint = {CHAMPION: "; `emotion promote` sets it", CHALLENGER: "; `emotion challenge` sets it"}.get(reference, "")
        return f"{where} has no {kind} {reference!r}{hint}; there is {', '.join(names)}"


def resolve_champion(model: str) -> VersionInfo:
    """The version of a registered model that serves.

    Raises:
        RegistryError: MLflow cannot be reached, or no version has been promoted; the message says what to do.
    """
    return Registry(model).resolve(CHAMPION)


def _without_repeats(history: Iterable[str]) -> list[str]:
    """A champion that follows itself, since the one between has been deleted, is the same one."""
    return [version for version, _ in groupby(history)]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
