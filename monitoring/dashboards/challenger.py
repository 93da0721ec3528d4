"""The challenger, as a part of the dashboard `model`: what it answers unseen (shadow), or to some callers (canary)."""

from __future__ import annotations

from monitoring.dashboards.parts import Panel, graph, heat, matrix, query, rates, stacked, what_to_do

JOB = 'job="$job"'


def panels() -> list[Panel]:
    """Empty where a server has neither a shadow nor a canary."""
    both = "champion_emotion, challenger_emotion"
    stages = f"emotion_shadow_stage_duration_seconds_bucket{{{JOB}}}"
    requests = f"sum by (result, model_version) (rate(emotion_canary_requests_total{{{JOB}}}[$__rate_interval]))"
    return [
        graph(
            "Disagreement",
            "Share of the faces of a day that both judged, at least 300, on which challenger and champion differ. No "
            "aim in itself: a better model disagrees where the champion is wrong.",
            query(
                f"job:emotion_shadow:disagreement{{{JOB}}}",
                "version {{challenger_version}} against {{champion_version}}",
            ),
        ).unit("percentunit"),
        matrix(
            "Both models' answers",
            "Faces of a day that both judged: the challenger's answer (across), the champion's (down).",
            f"sum by ({both}) (increase(emotion_shadow_predictions_total{{{JOB}}}[1d]))",
            "challenger_emotion",
            "champion_emotion",
        ),
        heat(
            "The challenger's confidence",
            "On the faces of the shadow.",
            rates("emotion_shadow_confidence", JOB),
            "percentunit",
        ),
        stacked(
            "Faces drawn for the shadow",
            "Per second, by what became of them; all but scored are dropped.",
            query(f"sum by (result) (rate(emotion_shadow_faces_total{{{JOB}}}[$__rate_interval]))", "{{result}}"),
        )
        .unit("cps")
        .links(what_to_do("EmotionChallengerRefused")),
        graph(
            "How long the shadow takes",
            "99 % of images take at most so long: waiting, and in the model; both give way to the champion.",
            query(f"histogram_quantile(0.99, sum by (stage, le) (rate({stages}[$__rate_interval]))) >= 0", "{{stage}}"),
        ).unit("s"),
        stacked(
            "Canary",
            "Requests per second that the challenger answered, or failed at and the champion answered.",
            query(requests, "{{result}}, version {{model_version}}"),
        )
        .unit("reqps")
        .links(what_to_do("EmotionCanaryFails", "EmotionCanarySwitchedOff")),
    ]
