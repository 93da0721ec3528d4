"""What `emotion explain` looks at: a trained model of models/, or a bundle, without Keras.

subject = trained("lenet", load_params())          # or bundled(Path("bundles/lenet"))
method, heat = subject.explain(images, targets, None)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emotion_detection.bundle import read_bundle
from emotion_detection.errors import ExplanationError
from emotion_detection.explain.heatmaps import Heat, Images, Method, Predict, Targets, occlusion
from emotion_detection.preprocess import MAX_PIXELS

if TYPE_CHECKING:
    from emotion_detection.params import Params

FeatureMaps = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Subject:
    """A model that can be asked, and asked why."""

    name: str
    labels: tuple[str, ...]
    image_size: int
    channels: int
    predict: Predict
    inside: Method | None
    """The method that looks into the model; none where only occlusion is left."""
    look_inside: Callable[[Images, Targets], Heat]
    feature_maps: Callable[[Images], FeatureMaps]
    """float32 (h, w, K) of each block of convolutions, if there are any, for uint8 (S, S, C)."""
    max_pixels: int = MAX_PIXELS
    """Of pictures that it is asked about."""

    def explain(self, images: Images, targets: Targets, method: Method | None) -> tuple[Method, Heat]:
        """Heat maps (N, S, S) of uint8 (N, S, S, C) for classes (N,), and how they were made.

        Args:
            method: none for what fits the model.

        Raises:
            ExplanationError: the method does not fit the model.
        """
        chosen = method or self.inside or "occlusion"
        if chosen == "occlusion":
            return chosen, occlusion(self.predict, images, targets)
        if chosen != self.inside:
            fitting = "occlusion" if self.inside is None else f"{self.inside} and occlusion"
            raise ExplanationError(f"--method: {self.name} cannot be explained by {chosen}; what fits is {fitting}")
        return chosen, self.look_inside(images, targets)

    def index_of(self, label: str) -> int:
        """Raises ExplanationError: the model does not know the class."""
        if label not in self.labels:
            raise ExplanationError(f"--class: found {label!r}; {self.name} knows {', '.join(self.labels)}")
        return self.labels.index(label)


def trained(name: str, params: Params) -> Subject:
    """A model of models/, with the temperature that its evaluation found.

    Raises:
        ArtifactError: the model is not trained or evaluated yet, or does not fit the shards.
        ParamsError: there is no such model.
    """
    # TensorFlow takes seconds, and a bundle needs none of it.
    from emotion_detection.artifacts import SHARDS, Report, model_dir, read_record, report_dir  # noqa: PLC0415
    from emotion_detection.data.shards import read_dataset_info  # noqa: PLC0415
    from emotion_detection.explain.methods import explainer, feature_maps  # noqa: PLC0415
    from emotion_detection.explain.report import predictor  # noqa: PLC0415
    from emotion_detection.inference import asked, check_fits  # noqa: PLC0415
    from emotion_detection.models import load_model  # noqa: PLC0415

    architecture, info = params.model(name).architecture, read_dataset_info(SHARDS)
    report = read_record(report_dir(name) / "metrics.json", Report)
    model = load_model(architecture, model_dir(name) / "model.keras")
    check_fits(model, info)
    inside = explainer(model)
    return Subject(
        name=name,
        labels=info.labels,
        image_size=info.image_size,
        channels=info.channels,
        predict=predictor(asked(model, report.flip_average), report.temperature),
        inside=inside.method if inside else None,
        look_inside=inside or _nothing,
        feature_maps=partial(feature_maps, model),
        max_pixels=params.data.max_pixels,
    )


def bundled(directory: Path) -> Subject:
    """A bundle, explained by ONNX Runtime alone.

    Raises:
        BundleError: the bundle does not verify or cannot be run.
    """
    from emotion_detection.explain.bundles import BundleExplainer, predictor  # noqa: PLC0415  takes ONNX Runtime

    bundle = read_bundle(directory)
    predict = predictor(bundle, threads=0)  # as many as there are cores
    explain = BundleExplainer(bundle, predict, threads=0)
    return Subject(
        name=str(directory),
        labels=bundle.info.labels,
        image_size=bundle.info.image_size,
        channels=bundle.info.channels,
        predict=predict,
        inside=None if explain.method == "occlusion" else explain.method,
        look_inside=explain,
        feature_maps=_needs_keras,
    )


def _needs_keras(_: Images) -> FeatureMaps:
    raise ExplanationError("--method features: a bundle holds no feature maps; name a trained model with --model")


def _nothing(_images: Images, _targets: Targets) -> Heat:
    raise AssertionError("without a method to look inside, there is only occlusion")
