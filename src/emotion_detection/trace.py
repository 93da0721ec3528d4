"""Follow a registered version back to where it comes from, and say which links hold from here.

[prediction ->] version -> MLflow run -> git commit -> dvc.lock -> data
"""

from __future__ import annotations

from dataclasses import dataclass

from emotion_detection.artifacts import DVC_LOCK, SHARDS, DatasetInfo, read_record
from emotion_detection.errors import ArtifactError, RegistryError
from emotion_detection.lineage import commit_exists, lock_hash, lock_history
from emotion_detection.mlflow_store import shown
from emotion_detection.prediction_ids import PredictionId
from emotion_detection.registry import Registry, VersionInfo
from emotion_detection.versions import DIGEST_TAG


@dataclass(frozen=True)
class Link:
    """One step back."""

    name: str
    value: str | None
    """What the version records."""
    ok: bool
    """Whether it can be followed from here."""
    detail: str


def trace(registry: Registry, version: VersionInfo) -> list[Link]:
    """The links of a version, nearest first.

    Raises:
        RegistryError: MLflow cannot be reached.
    """
    tags = version.tags
    return [
        _run(registry, version.run_id),
        _commit(tags.get("commit"), dirty=tags.get("dirty") == "True"),
        _lock(tags.get("dvc_lock"), version.model),
        _data(tags.get("data_hash")),
    ]


def version_of(registry: Registry, prediction: PredictionId) -> VersionInfo:
    """The version that answered.

    Raises:
        RegistryError: MLflow cannot be reached, or does not have it.
    """
    if prediction.version is not None:
        version = registry.resolve(prediction.version)
        found = version.tags.get(DIGEST_TAG, "none")
        if found.startswith(prediction.digest):
            return version
        reason = f"version {version.version} is bundle {found[: len(prediction.digest)]}, not {prediction.digest}"
    else:
        for version in registry.versions():
            if version.tags.get(DIGEST_TAG, "").startswith(prediction.digest):
                return version
        reason = f"no version is bundle {prediction.digest}, from whose directory the server was started"
    raise RegistryError(
        f"MLflow at {shown(registry.uri)}: {registry.model}: {reason}; set MLFLOW_TRACKING_URI, or registry.model in "
        "params.yaml, to where the model that gave this answer is registered"
    )


def _run(registry: Registry, run_id: str | None) -> Link:
    run = registry.run(run_id) if run_id else None
    detail = f"{run.info.run_name}, {run.info.status.lower()}" if run else "not in this MLflow"
    return Link("run", run_id, run is not None, detail)


def _commit(commit: str | None, dirty: bool) -> Link:
    if commit is None:
        return Link("commit", None, False, "exported outside a git repository")
    if not commit_exists(commit):
        return Link("commit", commit, False, "not in this repository; `git fetch` may bring it")
    return Link("commit", commit, True, "in this repository" + (", plus changes not committed then" if dirty else ""))


def _lock(recorded: str | None, model: str) -> Link:
    if recorded is None:
        return Link("dvc.lock", None, False, "exported outside `dvc repro`")
    if DVC_LOCK.exists() and lock_hash(DVC_LOCK.read_text(encoding="utf-8"), model) == recorded:
        return Link("dvc.lock", recorded, True, "as it is now")
    for commit, text in lock_history():
        if lock_hash(text, model) == recorded:
            return Link("dvc.lock", recorded, True, f"as of commit {commit[:12]}; `git checkout` it, then `dvc pull`")
    return Link("dvc.lock", recorded, False, "neither the present one nor any committed one")


def _data(recorded: str | None) -> Link:
    try:
        present = read_record(SHARDS / "dataset.json", DatasetInfo).data_hash
    except ArtifactError as error:
        return Link("data", recorded, False, str(error))
    if present != recorded:
        return Link(
            "data", recorded, False, f"the data set here is {present[:12]}; go to the dvc.lock above for the other"
        )
    return Link("data", recorded, True, "the data set that is here")
