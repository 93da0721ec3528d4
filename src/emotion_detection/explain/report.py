"""Explanations in the report of a model: which faces are explained, and how.

explanation_drawings(model, test, 12)       # {"explanations": ..., "feature_maps": ...}
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_detection.backend import keras
from emotion_detection.explain.heatmaps import Heat, Images, Predict, occlusion
from emotion_detection.explain.methods import explainer, feature_maps
from emotion_detection.explain.pictures import NAMES, Explained, channels, explanations
from emotion_detection.figures import Drawing
from emotion_detection.inference import Answers
from emotion_detection.stats import softmax


def explanation_drawings(model: keras.Model, test: Answers, count: int) -> dict[str, Drawing]:
    """Pictures for the report of a model; `test` is scaled.

    Args:
        count: faces to explain, for the class that was answered: half of them right answers, half wrong ones, as far
            as there are.
    """
    chosen = choose(test, count)
    if not chosen:
        return {}
    heat, title = explain_answers(model, test.images[chosen], test.predicted[chosen], test.temperature)
    items = [Explained(test.images[i], warmth, _title(test, i)) for i, warmth in zip(chosen, heat, strict=True)]
    found: dict[str, Drawing] = {"explanations": partial(explanations, items, f"{title}: true class, answer")}
    if maps := feature_maps(model, test.images[chosen[0]]):
        found["feature_maps"] = partial(channels, test.images[chosen[0]], maps)
    return found


def explain_answers(
    model: keras.Model, images: Images, targets: NDArray[np.integer[Any]], temperature: float
) -> tuple[Heat, str]:
    """Heat maps by the method that looks into the model, or else by occlusion; and what the method is called."""
    explain = explainer(model)
    if explain is None:
        return occlusion(predictor(model, temperature), images, targets), NAMES["occlusion"]
    return explain(images, targets), f"{NAMES[explain.method]} at {explain.layer}"


def predictor(model: keras.Model, temperature: float) -> Predict:
    """Calibrated probabilities of a Keras model."""
    return lambda images: softmax(np.asarray(model(images, training=False), np.float32) / temperature)


def choose(test: Answers, count: int) -> list[int]:
    """Images to explain: right answers, one class after the other, then wrong ones; each most confident first."""
    confidence, right = test.probabilities.max(axis=1), test.predicted == test.labels
    order = np.argsort(-confidence, kind="stable")
    wrong = [int(i) for i in order if not right[i]]
    by_class = [[int(i) for i in order if right[i] and test.labels[i] == label] for label in test.present]
    turns = [images[turn] for turn in range(count) for images in by_class if turn < len(images)]
    rights = turns[: max(count - count // 2, count - len(wrong))]
    return [*rights, *wrong[: count - len(rights)]]


def _title(test: Answers, index: int) -> str:
    confidence = test.probabilities[index].max()
    true, predicted = test.names[test.labels[index]], test.names[test.predicted[index]]
    return f"{true}\n{'✓' if true == predicted else '→ ' + predicted} {confidence:.0%}"
