"""As scenarios.py, for estimated and live accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.monitoring.rule_tests import Scenario, restarting, rising, series, turning
from tests.monitoring.scenarios import DAY, HOUR, STEP, STEPS


def accuracy() -> Scenario:
    """Confidence of 26 hours, and what people said in 8 days is `feedback`."""
    test = Scenario("accuracy", STEP)

    def job(
        name: str,
        confidence: Sequence[float],
        *,
        faces: float = 200,
        version: str = "1",
        instance: str = "a",
        reference: tuple[float, float] = (0.8, 0.75),
    ) -> None:
        labels = {"job": name, "model_version": version, "instance": instance}
        sums = turning(faces * confidence[0], faces * confidence[-1], DAY, STEPS)
        counts = rising(faces, STEPS)
        if name == "restarted":
            sums, counts = (restarting(rate, 74, STEPS) for rate in (faces * confidence[0], faces))
        test.series.append(series("emotion_prediction_confidence_sum", sums, **labels))
        test.series.append(series("emotion_prediction_confidence_count", counts, **labels))
        for figure, value in zip(("accuracy", "confidence"), reference, strict=True):
            test.series.append(series(f"emotion_reference_{figure}", f"{value}x{STEPS}", **labels))

    job("as before", [0.75])
    job("unsure", [0.5], faces=100)
    job("unsure", [0.7], faces=300, instance="b")
    job("unsure", [0.9], version="2")
    job("thin", [0.5], faces=5)
    job("turned", [0.75, 0.5])
    job("turned back", [0.5, 0.75])
    job("a little less", [0.71])
    job("less", [0.69])
    job("enough", [0.75], faces=100)
    job("too few", [0.75], faces=99)
    job("too thin", [0.75], faces=4)
    job("restarted", [0.75])
    for instance in ("a", "b"):
        job("shared", [0.75], faces=50, instance=instance)
        job("thinly shared", [0.75], faces=3, instance=instance)
    job("gone", [0.5], reference=(0, 0))
    turned = (0.75 * (DAY - HOUR) + 0.5 * HOUR) / DAY
    back = (0.5 * (DAY - HOUR) + 0.75 * HOUR) / DAY
    means = {
        ("as before", "1"): (0.75, 0.75), ("unsure", "1"): (0.65, 0.65), ("unsure", "2"): (0.9, 0.9),
        ("thin", "1"): (None, 0.5), ("turned", "1"): (0.5, turned), ("turned back", "1"): (0.75, back),
        ("a little less", "1"): (0.71, 0.71),
        ("less", "1"): (0.69, 0.69), ("enough", "1"): (0.75, 0.75), ("too few", "1"): (None, 0.75),
        ("restarted", "1"): (0.75, 0.75), ("shared", "1"): (0.75, 0.75), ("thinly shared", "1"): (None, 0.75),
    }  # fmt: skip
    found = [
        ({"job": name, "model_version": version, "window": window}, mean + 0.05)
        for (name, version), windows in means.items()
        for window, mean in zip(("1h", "1d"), windows, strict=True)
        if mean is not None
    ]
    test.values("25h", "job:emotion_accuracy:estimated", found)
    enough = 'group by (window) (job:emotion_accuracy:estimated{job="enough"})'  # of exactly 300 faces
    test.values("1h", enough, [({"window": "1h"}, 1), ({"window": "1d"}, 1)])
    test.fires("20m", "EmotionEstimatedAccuracyLow")
    test.fires(
        "40m",
        "EmotionEstimatedAccuracyLow",
        *[{"job": "unsure", "model_version": "1", "window": w} for w in ("1h", "1d")],
    )
    low = [labels for labels, value in found if value < 0.75 - 1e-9]
    test.fires("25h20m", "EmotionEstimatedAccuracyLow", *low)
    return test


def feedback() -> Scenario:
    """What people said of the answers in eight days."""
    test, steps = Scenario("accuracy", "2h"), 100

    def job(
        name: str,
        right: float,
        wrong: float,
        *,
        turn: tuple[float, float] | None = None,
        version: str = "1",
        instance: str = "a",
        reference: float = 0.8,
    ) -> None:
        labels = {"job": name, "model_version": version, "instance": instance}
        test.series.append(series("emotion_reference_accuracy", f"{reference}x{steps}", **labels))
        rates = {
            ("happy", "happy"): right / 2,
            ("sad", "sad"): right / 2,
            ("happy", "sad"): wrong / 2,
            ("sad", "happy"): wrong / 2,
        }
        later = {True: turn[0] / 2, False: turn[1] / 2} if turn else None
        for (predicted, actual), rate in rates.items():
            if rate or turn:
                after = later[predicted == actual] if later else rate
                values = (
                    turning(rate, after, 84, steps)
                    if name != "right" or version != "1"
                    else restarting(rate, 90, steps)
                )
                test.series.append(
                    series("emotion_feedback_total", values, predicted=predicted, actual=actual, **labels)
                )

    job("right", 8, 2)
    job("wrong", 3, 3)
    job("wrong", 3, 3, instance="b")
    job("wrong", 6, 1.5, version="2")
    job("always wrong", 0, 5)
    job("right", 0, 5, version="2")
    job("thin", 0.36, 0.36)
    job("too thin", 0.25, 0.25)
    job("turned", 8, 2, turn=(2, 4))
    job("a little less", 7, 3)
    job("hardly less", 7.5, 2.5)
    found = {
        ("right", "1"): ((96, 24), (672, 168)), ("wrong", "1"): ((72, 72), (504, 504)),
        ("wrong", "2"): ((72, 18), (504, 126)), ("always wrong", "1"): ((0, 60), (0, 420)),
        ("right", "2"): ((0, 60), (0, 420)),
        ("thin", "1"): (None, (30.24, 30.24)),
        ("turned", "1"): ((24, 48), (576 + 24, 144 + 48)),
        ("a little less", "1"): ((84, 36), (588, 252)), ("hardly less", "1"): ((90, 30), (630, 210)),
    }  # fmt: skip
    live, low = [], []
    for (name, version), windows in found.items():
        for window, counts in zip(("1d", "7d"), windows, strict=True):
            if counts is not None:
                labels, total = {"job": name, "model_version": version, "window": window}, sum(counts)
                live.append((labels, counts[0] / total))
                low += [labels] if counts[0] / total < 0.8 - 3 * math.sqrt(0.16 / total) else []
    test.values("192h", "job:emotion_accuracy:live", live)
    test.fires("192h", "EmotionLiveAccuracyLow", *low)
    enough = 'group by (window) (job:emotion_accuracy:live{job="always wrong"})'  # of exactly 50 answers
    test.values("20h", enough, [({"window": "1d"}, 1), ({"window": "7d"}, 1)])
    test.fires("10h", "EmotionLiveAccuracyLow")
    test.fires(
        "12h", "EmotionLiveAccuracyLow", *[{"job": "wrong", "model_version": "1", "window": w} for w in ("1d", "7d")]
    )
    return test
