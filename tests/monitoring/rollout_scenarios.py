"""As scenarios.py, for the rules on shadow, canary and challenger."""

from __future__ import annotations

from tests.monitoring.rule_tests import Scenario, restarting, rising, series, turning


def shadow() -> Scenario:
    """What two versions answered to the same faces in 30 hours, seen after 25."""
    test, steps = Scenario("rollout", "30m"), 60
    day, turn = 48, 40

    def job(
        name: str,
        alike: float,
        apart: float,
        *,
        after: tuple[float, float] | None = None,
        champion: str = "1",
        challenger: str = "2",
        instance: str = "a",
    ) -> None:
        later = after or (alike, apart)
        for one, other, before, then in (
            ("happy", "happy", alike / 2, later[0] / 2),
            ("sad", "sad", alike / 2, later[0] / 2),
            ("happy", "sad", apart, later[1]),
            ("sad", "happy", 0, 0),
        ):
            values = restarting(before, 20, steps) if name == "restarted" else turning(before, then, turn, steps)
            labels = {"job": name, "instance": instance, "champion_emotion": one, "challenger_emotion": other}
            versions = {"champion_version": champion, "challenger_version": challenger}
            test.series.append(series("emotion_shadow_predictions_total", values, **labels, **versions))

    job("alike", 10, 0)
    job("apart", 6, 2)
    job("apart", 8, 1, instance="b")
    job("apart", 4, 4, challenger="3")
    job("apart", 9, 1, champion="0")
    job("turned", 10, 0, after=(0, 10))
    job("restarted", 8, 2)
    job("enough", 5, 1.25)
    job("too few", 5, 1)
    job("nobody", 0, 0)
    counts = {
        ("alike", "1", "2"): (480, 0), ("apart", "1", "2"): (14 * day, 3 * day), ("apart", "1", "3"): (192, 192),
        ("apart", "0", "2"): (9 * day, day), ("turned", "1", "2"): (380, 100), ("restarted", "1", "2"): (384, 96),
        ("enough", "1", "2"): (240, 60), ("too few", "1", "2"): (240, 48), ("nobody", "1", "2"): (0, 0),
    }  # fmt: skip
    named = [
        ({"job": name, "champion_version": champion, "challenger_version": challenger, "window": "1d"}, counted)
        for (name, champion, challenger), counted in counts.items()
    ]
    test.values("25h", "job:emotion_shadow_predictions:increase", [(labels, sum(both)) for labels, both in named])
    shares = [(labels, apart / (alike + apart)) for labels, (alike, apart) in named if alike + apart >= 300]
    test.values("25h", "job:emotion_shadow:disagreement", shares)
    return test


def canary() -> Scenario:
    """Requests of three hours."""
    test, steps = Scenario("rollout", "3m"), 60
    hour, turn = 20, 30

    def job(
        name: str,
        answered: float,
        failed: float,
        *,
        after: tuple[float, float] | None = None,
        version: str = "2",
        instance: str = "a",
    ) -> None:
        for result, before, then in zip(
            ("answered", "failed"), (answered, failed), after or (answered, failed), strict=True
        ):
            values = restarting(before, 50, steps) if name == "restarted" else turning(before, then, turn, steps)
            labels = {"job": name, "instance": instance, "model_version": version, "result": result}
            test.series.append(series("emotion_canary_requests_total", values, **labels))

    job("well", 991, 9)
    job("fails", 494, 6)
    job("fails", 497, 6, instance="b")
    job("fails", 1000, 0, version="3")
    job("turned bad", 100, 0, after=(95, 5))
    job("turned good", 95, 5, after=(100, 0))
    job("restarted", 95, 5)
    job("enough", 4.75, 0.25)
    job("too few", 4.5, 0.25)
    ratios = {
        ("well", "2"): 0.009, ("fails", "2"): 12 / 1003, ("fails", "3"): 0, ("turned bad", "2"): 0.05,
        ("turned good", "2"): 0, ("restarted", "2"): 0.05, ("enough", "2"): 0.05,
    }  # fmt: skip
    named = [
        ({"job": name, "model_version": version, "window": "1h"}, ratio) for (name, version), ratio in ratios.items()
    ]
    test.values(f"{3 * (turn + hour + 4)}m", "job:emotion_canary_failures:ratio", named)
    always = [{"job": name, "model_version": "2"} for name in ("fails", "restarted", "enough")]
    good, bad = ({"job": f"turned {how}", "model_version": "2"} for how in ("good", "bad"))
    test.fires("108m", "EmotionCanaryFails", *always, good)
    test.fires("111m", "EmotionCanaryFails", *always, good, bad)
    test.fires("162m", "EmotionCanaryFails", *always, bad)
    return test


def challengers() -> Scenario:
    """Instances, an hour of each."""
    test, steps = Scenario("rollout", "1m"), 70

    def state(name: str, instance: str, values: str, **labels: str) -> None:
        test.series.append(series(name, values, job="emotion-server", instance=instance, **labels))

    for instance, off in (("well", f"0x{steps}"), ("off", f"0x20 1x9 0x{steps}")):
        state("emotion_canary_switched_off", instance, off)
        state("emotion_canary_requests_total", instance, rising(1, steps), result="failed", model_version="2")
    for instance, refused in (("well", f"0x{steps}"), ("refuses", f"0x20 1 0x{steps}")):
        state("emotion_challenger_polls_total", instance, refused, result="refused")
        state("emotion_challenger_polls_total", instance, rising(1, steps), result="absent")
    test.fires("20m", "EmotionCanarySwitchedOff")
    test.fires("21m", "EmotionCanarySwitchedOff", {"instance": "off"})
    test.fires("32m", "EmotionCanarySwitchedOff")
    test.fires("21m", "EmotionChallengerRefused")
    test.fires("22m", "EmotionChallengerRefused", {"instance": "refuses"})
    test.fires("45m", "EmotionChallengerRefused")
    return test
