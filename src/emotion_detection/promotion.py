"""From a registered version to the champion, through the gate: download, score, judge, promote, keep the verdict.

decision = promote(params, registry, registry.resolve("3"))
decision.promoted, decision.verdict
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emotion_detection.artifacts import SHARDS, Report, Robustness, bundle_dir, read_record, report_dir
from emotion_detection.bundle import ModelBundle, read_bundle
from emotion_detection.errors import EmotionError
from emotion_detection.gate import Candidate, Holdout, Verdict, judge, misfit
from emotion_detection.params import Params
from emotion_detection.registry import Registry, VersionInfo, download_bundle
from emotion_detection.robustness import measure
from emotion_detection.scoring import predictor, score
from emotion_detection.slices import face_slicings

if TYPE_CHECKING:
    from emotion_detection.shadow_evidence import Demand

CACHE = Path(".cache/bundles")


@dataclass(frozen=True)
class Decision:
    """What became of a version that wanted to be champion."""

    version: VersionInfo
    outcome: str
    """promoted, refused, forced, or champion: it already was."""
    verdict: Verdict | None
    """None where nothing was judged."""

    @property
    def promoted(self) -> bool:
        return self.outcome != "refused"


def promote(
    params: Params,
    registry: Registry,
    version: VersionInfo,
    reason: str | None = None,
    demand: Demand | None = None,
) -> Decision:
    """Make a version champion if it passes the gate; its verdict is kept in the registry in any case.

    Args:
        reason: promote whatever the gate says, and keep this with the version.
        demand: what it must have shown in the shadow of the champion, if there is one.

    Raises:
        ArtifactError: the test images or a bundle are missing or damaged.
        RegistryError: MLflow cannot be reached.
        DetectionError: a server that is to tell of the shadow does not answer, or follows another registry.
    """
    if version.is_champion:
        return Decision(version, "champion", None)
    judged = _judge_if_possible if reason else judge_version
    verdict = judged(params, registry, version, demand)
    outcome = "forced" if reason else "promoted" if verdict and verdict.passed else "refused"
    tags = _verdict_tags(outcome, verdict) | ({"forced_because": reason} if reason else {})
    if verdict:
        registry.keep_json(version, verdict.model_dump(), f"gate/version-{version.version}.json")
    if outcome == "refused":
        registry.tag(version, tags)
    else:
        registry.promote(version, tags)
    return Decision(registry.resolve(version.version), outcome, verdict)


def judge_version(params: Params, registry: Registry, version: VersionInfo, demand: Demand | None = None) -> Verdict:
    """Hold a version against the thresholds and against the champion; changes nothing.

    Args:
        demand: what it must have shown in the shadow of the champion, if there is one.

    Raises:
        ArtifactError, RegistryError, DetectionError: as `promote`.
    """
    holdout, images = load_holdout()
    champion = registry.champion()
    rival = champion if champion and champion.version != version.version else None
    shown = demand.checks(rival, version) if demand and rival else ()
    verdict = judge(
        params,
        holdout,
        _candidate(version, holdout, images, params),
        _candidate(rival, holdout, images) if rival else None,
    )
    return verdict.model_copy(update={"checks": (*verdict.checks, *shown)})


def load_holdout() -> tuple[Holdout, NDArray[np.uint8]]:
    """The test split of the shards: labels and truth, and its images uint8 (N, S, S, C)."""
    from emotion_detection.data.shards import load_arrays, read_dataset_info  # noqa: PLC0415  imports TensorFlow

    info, arrays = read_dataset_info(SHARDS), load_arrays(SHARDS, "test")
    slicings = face_slicings(arrays.images) if len(arrays.images) else []
    return Holdout(info.labels, arrays.labels, info.image_size, info.channels, slicings), arrays.images


def find_candidate(params: Params, registry: Registry, reference: str | None) -> VersionInfo:
    """The version that is meant by a number, an alias, the name of a model, or nothing: the best model."""
    if reference is None:
        return registered(params, registry, best_model(params))
    if reference in params.models:
        return registered(params, registry, reference)
    return registry.resolve(reference)


def registered(params: Params, registry: Registry, model: str) -> VersionInfo:
    """The version that holds the present bundle of a model, registered now if the registry does not have it."""
    version = registry.find(read_bundle(bundle_dir(model)).info.digest())
    if version is None:
        from emotion_detection.registration import register_model  # noqa: PLC0415  seldom needed

        version = registry.resolve(register_model(params, model).version)
    return version


def best_model(params: Params) -> str:
    """The model with the highest validation accuracy; the test split is left out of the choice.

    Raises:
        ArtifactError: a model has not been evaluated.
    """
    accuracy = {
        name: read_record(report_dir(name) / "metrics.json", Report).val.accuracy.value for name in params.models
    }
    return max(accuracy, key=lambda name: accuracy[name])


def _candidate(
    version: VersionInfo, holdout: Holdout, images: NDArray[np.uint8], params: Params | None = None
) -> Candidate:
    """A version and its answers; with `params`, also to corrupted images, where the gate asks for that."""
    bundle = download_bundle(version, CACHE / version.name / version.version)
    name = f"version {version.version} ({bundle.info.model})"
    if misfit(bundle.info, holdout):
        return Candidate(name, bundle.info, None)
    wanted = params and params.gate.min_corrupted_accuracy
    robustness = measure_robustness(params, bundle, holdout, images) if params and wanted else None
    return Candidate(name, bundle.info, score(bundle, images), robustness)


def measure_robustness(
    params: Params, bundle: ModelBundle, holdout: Holdout, images: NDArray[np.uint8]
) -> Robustness | None:
    """Accuracy of a bundle that fits the holdout on `evaluation.robustness_images` corrupted ones of its images."""
    predict = predictor(bundle)
    order = np.array([holdout.labels.index(label) for label in bundle.info.labels])

    def classes(faces: NDArray[np.uint8]) -> NDArray[np.intp]:
        return np.asarray(order[predict(faces).argmax(axis=1)])

    return measure(classes, images, holdout.truth, params.evaluation, params.seed)


def _judge_if_possible(
    params: Params, registry: Registry, version: VersionInfo, demand: Demand | None
) -> Verdict | None:
    try:
        return judge_version(params, registry, version, demand)
    except EmotionError:  # --force is for the case that the gate cannot be asked, too
        return None


def _verdict_tags(outcome: str, verdict: Verdict | None) -> dict[str, str]:
    if verdict is None:
        return {"verdict": outcome}
    return {"verdict": outcome, "verdict_details": verdict.model_dump_json()}
