"""What the rules in monitoring/prometheus/rules must say and must not, as series and the values expected of them.

Each job is a story of its own; what comes out is held against `tests.drift` on the same counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tests.drift import jensen_shannon, population_stability_index
from tests.monitoring.rule_tests import Labels, Scenario, restarting, rising, series, turning

STEP = "20m"
HOUR, DAY = 3, 72
"""In steps."""
STEPS = 26 * HOUR
Counts = NDArray[np.float64]
EMOTIONS, SHARES = ("angry", "happy", "sad"), (0.5, 0.3, 0.2)
STEADY, MOVED = np.array([100, 60, 40]), np.array([20, 40, 80])
"""Predictions in a step."""
BINS = (("-Inf", "20.0"), ("20.0", "40.0"), ("40.0", "+Inf"))


def hour_and_day(job: str, hour: Counts | None, day: Counts, **labels: str) -> list[tuple[Labels, Counts]]:
    """Counts of a job in both windows; none: too few in an hour."""
    windows = {"1h": hour, "1d": day}
    return [({"job": job, **labels, "window": w}, counts) for w, counts in windows.items() if counts is not None]


def measured(
    statistic: Callable[[Sequence[float], Counts], float], found: Sequence[tuple[Labels, Counts]]
) -> list[tuple[Labels, float]]:
    return [(labels, statistic(SHARES, counts)) for labels, counts in found]


def class_drift() -> Scenario:
    """Predictions of 26 hours."""
    test = Scenario("class_drift", STEP)

    def job(name: str, counters: Sequence[str], version: str = "1", instance: str = "a", share: float = 1) -> None:
        labels = {"job": name, "instance": instance, "model_version": version}
        for emotion, expected, counter in zip(EMOTIONS, SHARES, counters, strict=True):
            reference = f"{expected * share:g}x{STEPS}"
            test.series.append(series("emotion_reference_share", reference, emotion=emotion, **labels))
            if counter:
                test.series.append(series("emotion_predictions_total", counter, emotion=emotion, **labels))

    job("moved", [rising(rate / 2, STEPS) for rate in MOVED])
    job("moved", [restarting(rate / 2, 74, STEPS) for rate in MOVED], instance="b")
    job("steady", [rising(rate, STEPS) for rate in STEADY])
    job("steady", [rising(rate, STEPS) for rate in MOVED], version="2")
    job("steady", [rising(rate / 200, STEPS) for rate in MOVED], version="3")
    job("thin", [rising(rate / 20, STEPS) for rate in MOVED])
    job("turned", [turning(*rates, DAY, STEPS) for rates in zip(STEADY, MOVED, strict=True)])
    job("turned back", [turning(*rates, DAY, STEPS) for rates in zip(MOVED, STEADY, strict=True)])
    job("never sad", [rising(80, STEPS), rising(60, STEPS), ""])
    job("gone", [rising(rate, STEPS) for rate in MOVED], share=0)
    job("silent", [rising(0, STEPS)] * 3)

    never_sad = np.array([80, 60, 0])
    found = [
        *hour_and_day("moved", MOVED * HOUR, MOVED * DAY, model_version="1"),
        *hour_and_day("steady", STEADY * HOUR, STEADY * DAY, model_version="1"),
        *hour_and_day("steady", MOVED * HOUR, MOVED * DAY, model_version="2"),
        *hour_and_day("thin", None, MOVED * DAY / 20, model_version="1"),
        *hour_and_day("turned", MOVED * HOUR, STEADY * (DAY - HOUR) + MOVED * HOUR, model_version="1"),
        *hour_and_day("turned back", STEADY * HOUR, MOVED * (DAY - HOUR) + STEADY * HOUR, model_version="1"),
        *hour_and_day("never sad", never_sad * HOUR, never_sad * DAY, model_version="1"),
    ]
    test.values("25h", "job:emotion_class_drift:psi", measured(population_stability_index, found))
    test.values("25h", "job:emotion_class_drift:jensen_shannon", measured(jensen_shannon, found))
    for statistic in ("psi", "jensen_shannon"):  # 280 faces are too few
        windows = f'group by (window) (job:emotion_class_drift:{statistic}{{job="moved"}})'
        test.values("40m", windows, [])
        test.values("1h", windows, [({"window": "1h"}, 1), ({"window": "1d"}, 1)])
    drifting = [labels for labels, counts in found if population_stability_index(SHARES, counts) > 0.2]
    test.fires("1h", "EmotionClassDrift")
    soon = [labels for labels in drifting if labels["job"] in ("moved", "steady", "never sad")]
    soon += [{"job": "turned back", "model_version": "1", "window": window} for window in ("1h", "1d")]
    test.fires("1h20m", "EmotionClassDrift", *soon)
    test.fires("25h20m", "EmotionClassDrift", *drifting)
    return test


NEAR = {"enough": (50, 25, 25), "too few": (50, 25, 24.6), "just below": (70, 100, 30), "just above": (62, 108, 30)}
NEAR["one empty"] = (70, 60, 0)
"""Counts in a step, an hour of which is near what the rules take for enough, or for much."""


def near_the_limits_of_class_drift() -> Scenario:
    """300 faces are enough; a PSI of 0.2 is not yet too much."""
    test = Scenario("class_drift", STEP)
    for job, rates in NEAR.items():
        for emotion, share, rate in zip(EMOTIONS, SHARES, rates, strict=True):
            labels = {"job": job, "model_version": "1", "emotion": emotion}
            test.series.append(series("emotion_reference_share", f"{share}x6", **labels))
            test.series.append(series("emotion_predictions_total", rising(rate, 6), **labels))
    for statistic, function in (("psi", population_stability_index), ("jensen_shannon", jensen_shannon)):
        test.values("1h", f"job:emotion_class_drift:{statistic}", near(function, model_version="1"))
    test.fires("1h40m", "EmotionClassDrift", *[{"job": job} for job in ("just above", "one empty")])
    return test


def near_the_limits_of_input_drift() -> Scenario:
    """The same for bins."""
    test = Scenario("input_drift", STEP)
    for job, rates in NEAR.items():
        for (above, upper), share, count in zip(BINS, SHARES, np.cumsum(rates), strict=True):
            labels = {"job": job, "model_version": "1", "feature": "brightness", "above": above, "upper": upper}
            test.series.append(series("emotion_reference_bin_share", f"{share}x6", **labels))
            test.series.append(series("emotion_face_brightness_bucket", rising(count, 6), job=job, le=upper))
    found = near(population_stability_index, model_version="1", feature="brightness")
    test.values("1h", "job:emotion_input_drift:psi", found)
    test.fires("1h40m", "EmotionInputDrift", *[{"job": job} for job in ("just above", "one empty")])
    return test


def near(statistic: Callable[[Sequence[float], Counts], float], **labels: str) -> list[tuple[Labels, float]]:
    """Values of `NEAR` after an hour; the day is not longer yet."""
    enough = {job: np.array(rates) * HOUR for job, rates in NEAR.items() if job != "too few"}
    found = [one for job, counts in enough.items() for one in hour_and_day(job, counts, counts, **labels)]
    return measured(statistic, found)


def input_drift() -> Scenario:
    """Faces and answers of 26 hours."""
    test = Scenario("input_drift", STEP)
    features = {"brightness": "emotion_face_brightness", "contrast": "emotion_face_contrast"}
    features |= {"sharpness": "emotion_face_sharpness", "confidence": "emotion_prediction_confidence"}

    def reference(job: str, version: str, instance: str = "a", share: float = 1) -> None:
        for feature in features:
            for (above, upper), expected in zip(BINS, SHARES, strict=True):
                labels = {"job": job, "instance": instance, "model_version": version, "feature": feature}
                value = f"{expected * share:g}x{STEPS}"
                test.series.append(series("emotion_reference_bin_share", value, above=above, upper=upper, **labels))

    def faces(job: str, feature: str, before: Counts, after: Counts | None = None, **labels: str) -> None:
        cumulative = np.cumsum(before), np.cumsum(before if after is None else after)
        for (_, upper), first, second in zip(BINS, *cumulative, strict=True):
            values = turning(first, second, DAY, STEPS)
            if labels.get("instance") == "b":  # starts again
                values = f"{turning(first, second, DAY, 74)} {rising(second, STEPS - 75, second)}"
            test.series.append(series(f"{features[feature]}_bucket", values, job=job, le=upper, **labels))

    stories = {"brightness": (MOVED, None), "contrast": (STEADY, MOVED), "sharpness": (MOVED, STEADY)}
    for instance in ("a", "b"):
        reference("two", "1", instance)
        for feature, (before, after) in stories.items():
            faces("two", feature, before / 2, None if after is None else after / 2, instance=instance)
    reference("two", "2")
    reference("two", "3", share=0)
    reference("two", "4")
    for instance, part in (("a", np.array([100, 30, 10])), ("b", np.array([0, 30, 30]))):
        faces("two", "confidence", part, model_version="1", instance=instance)
    faces("two", "confidence", MOVED / 200, model_version="4", instance="a")
    reference("answers only", "1")
    faces("answers only", "confidence", MOVED, model_version="1")
    faces("two", "confidence", MOVED, model_version="2", instance="a")
    faces("two", "confidence", MOVED, model_version="3", instance="a")
    reference("thin", "1")
    for feature in stories:
        faces("thin", feature, MOVED / 20)
    faces("thin", "confidence", MOVED / 20, model_version="1")
    faces("no reference", "brightness", MOVED)
    faces("no reference", "confidence", MOVED, model_version="1")

    turned, back = STEADY * (DAY - HOUR) + MOVED * HOUR, MOVED * (DAY - HOUR) + STEADY * HOUR
    found = []
    for version in ("1", "2", "4"):
        both = {"model_version": version}
        found += hour_and_day("two", MOVED * HOUR, MOVED * DAY, feature="brightness", **both)
        found += hour_and_day("two", MOVED * HOUR, turned, feature="contrast", **both)
        found += hour_and_day("two", STEADY * HOUR, back, feature="sharpness", **both)
    found += hour_and_day("two", STEADY * HOUR, STEADY * DAY, model_version="1", feature="confidence")
    found += hour_and_day("two", MOVED * HOUR, MOVED * DAY, model_version="2", feature="confidence")
    found += hour_and_day("answers only", MOVED * HOUR, MOVED * DAY, model_version="1", feature="confidence")
    for feature in features:
        found += hour_and_day("thin", None, MOVED * DAY / 20, model_version="1", feature=feature)
    test.values("25h", "job:emotion_input_drift:psi", measured(population_stability_index, found))
    drifting = [labels for labels, counts in found if population_stability_index(SHARES, counts) > 0.2]
    test.fires("1h", "EmotionInputDrift")
    test.fires("25h20m", "EmotionInputDrift", *drifting)
    return test
