"""As scenarios.py, for the rules on the retrain webhook."""

from __future__ import annotations

from tests.monitoring.rule_tests import Scenario, series

FAILURES, REJECTED = "emotion_retrain_failures_total", "emotion_retrain_rejected_total"
ENDS = "emotion_retrain_commands_ended_total"


def retrain() -> Scenario:
    test, steps = Scenario("retrain", "1m"), 120

    def once(moment: int, restart: int) -> str:
        """A counter that rises after so many minutes, and starts again from 0 later."""
        return f"0x{moment - 1} 1x{restart - moment - 1} 0x{steps - restart}"

    # It rises every 14 minutes, and the webhook is started again in between.
    now_and_then = " ".join(["0x6 1x6"] * 9)
    for name, values in {"up": f"1x{steps}", "away": f"1x29 0x{steps - 30}"}.items():
        test.series.append(series("up", values, job="emotion-retrain", instance=name))
    test.series.append(series("up", f"0x{steps}", job="emotion-server", instance="other"))
    for name, values in (("never", f"0x{steps}"), ("once", once(30, 90)), ("for long", f"0x29 {now_and_then}")):
        for metric, reason in ((FAILURES, "forbidden"), (REJECTED, "unauthorized")):
            test.series.append(series(metric, values, job="emotion-retrain", instance=name, reason=reason))
    for result, moment in (("failed", 30), ("succeeded", 60)):
        values = once(moment, moment + 10)
        test.series.append(series(ENDS, values, job="emotion-retrain", instance="ended", result=result))

    test.fires("34m", "EmotionRetrainDown")
    test.fires("36m", "EmotionRetrainDown", {"instance": "away"})
    for alert, reason in (("EmotionRetrainFails", "forbidden"), ("EmotionRetrainRejected", "unauthorized")):
        test.fires("54m", alert)
        test.fires("70m", alert, {"instance": "for long", "reason": reason})
    test.fires("30m", "EmotionRetrainCommandFailed")
    for moment in ("32m", "88m"):
        test.fires(moment, "EmotionRetrainCommandFailed", {"instance": "ended", "result": "failed"})
    test.fires("91m", "EmotionRetrainCommandFailed")
    return test
