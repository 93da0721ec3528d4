"""Model: which version answers, what it answers, and how far faces and answers are from those it was made with."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import CustomVariable, Dashboard

from monitoring.dashboards import challenger
from monitoring.dashboards.boards import assemble, choice, fill, swaps
from monitoring.dashboards.parts import (
    Panel,
    at_least,
    bars,
    columns,
    graph,
    heat,
    limits,
    matrix,
    number,
    query,
    rates,
    rows,
    stacked,
    what_to_do,
)

JOB = 'job="$job"'
VERSION = f'{JOB}, model_version=~"$version"'
WINDOW = f'{VERSION}, window="$window"'
FEATURES = {
    "brightness": "mean grey value",
    "contrast": "standard deviation of the grey",
    "sharpness": "variance of the Laplacian",
}


def board() -> Dashboard:
    """The dashboard."""
    about = "Which version answers, what, and how far that is from the reference in its bundle."
    version = 'label_values(emotion_predictions_total{job="$job"}, model_version)'
    variables = [
        choice("job", "Job", "label_values(emotion_model_ready, job)"),
        choice("version", "Version", version, several=True),
        CustomVariable("window").label("Drift over").values("1h,1d"),
    ]
    return fill(
        assemble("model", about, variables).annotation(swaps()),
        {"Which model": _which(), "Answers": _answers(), "Drift": _drift(), "Faces": _faces(), "Accuracy": _accuracy()}
        | {"Challenger: judges unseen (shadow), or answers some callers (canary)": challenger.panels()},
    )


def _which() -> list[Panel]:
    names = {"version": "version", "architecture": "architecture", "precision": "precision", "run_id": "MLflow run"}
    names |= {"commit": "commit", "data_hash": "data", "instance": "instance"}
    polls = f"sum by (result) (increase(emotion_registry_polls_total{{{JOB}}}[$__rate_interval]))"
    failures = f"sum by (reason) (increase(emotion_model_load_failures_total{{{JOB}}}[$__rate_interval]))"
    return [
        columns(
            "What answers",
            "Where it comes from: `emotion trace` follows it.",
            names,
            rows(f"emotion_model_info{{{JOB}}} == 1"),
        )
        .height(4)
        .span(24),
        number("Ready", "Instances with a model.", query(f"sum(emotion_model_ready{{{JOB}}})"))
        .thresholds(at_least(1))
        .links(what_to_do("EmotionModelNotReady")),
        number(
            "Answers for",
            "Since the model was loaded.",
            query(f"time() - max(emotion_model_since_timestamp_seconds{{{JOB}}})"),
        ).unit("s"),
        number(
            "Age",
            "Since the version was registered; nothing where it comes from a directory.",
            query(f"time() - min(emotion_model_created_timestamp_seconds{{{JOB}}} > 0)"),
        )
        .unit("s")
        .thresholds(limits(90 * 86400))
        .links(what_to_do("EmotionModelOld")),
        number(
            "Swaps", "In the time that is shown.", query(f"sum(increase(emotion_model_swaps_total{{{JOB}}}[$__range]))")
        ).decimals(0),
        number("Registry", "1: the last poll succeeded, or none is asked.", query(f"min(emotion_registry_up{{{JOB}}})"))
        .thresholds(at_least(1))
        .links(what_to_do("EmotionRegistryUnreachable", "EmotionRegistryNotPolled")),
        number("Size", "Of the graph that answers.", query(f"max(emotion_model_bytes{{{JOB}}})")).unit("bytes"),
        graph(
            "Polls of the registry",
            "By what they ended with; refused: the champion does not verify or answers otherwise than at training.",
            query(polls, "{{result}}"),
            query(failures, "not loaded: {{reason}}"),
        )
        .height(5)
        .span(24)
        .links(what_to_do("EmotionModelRefused")),
    ]


def _answers() -> list[Panel]:
    answered = f"sum by (emotion) (rate(emotion_predictions_total{{{VERSION}}}[$__rate_interval]))"
    mean = "emotion_prediction_confidence"
    return [
        stacked("Answers", "Faces per second, by the emotion that was answered.", query(answered, "{{emotion}}")).unit(
            "cps"
        ),
        bars(
            "Answers against the reference",
            "Shares of the emotions over the time chosen above, beside those of the answers on the validation split.",
            "emotion",
            {
                "now": rows(f"avg by (emotion) (job_class:emotion_predictions:ratio{{{WINDOW}}})"),
                "reference": rows(f"avg by (emotion) (job_class:emotion_reference:share{{{VERSION}}})"),
            },
        )
        .unit("percentunit")
        .links(what_to_do("EmotionClassDrift")),
        graph(
            "Share of each emotion",
            "Over the time chosen above.",
            query(f"job_class:emotion_predictions:ratio{{{WINDOW}}}", "{{emotion}}, version {{model_version}}"),
        ).unit("percentunit"),
        heat(
            "Confidence",
            "Probability of the emotion that was answered.",
            rates("emotion_prediction_confidence", VERSION),
            "percentunit",
        ),
        heat(
            "Entropy",
            "Of all probabilities of a face, bits: 0 where the model is sure.",
            rates("emotion_prediction_entropy", VERSION),
        ),
        graph(
            "Mean confidence",
            "Beside that on the validation split; calibrated, it is about the share of right answers.",
            query(
                f"sum by (model_version) (rate({mean}_sum{{{VERSION}}}[$__rate_interval]))"
                f" / (sum by (model_version) (rate({mean}_count{{{VERSION}}}[$__rate_interval])) > 0)",
                "version {{model_version}}",
            ),
            query(f"job:emotion_reference:confidence{{{VERSION}}}", "reference, version {{model_version}}"),
        )
        .unit("percentunit")
        .links(what_to_do("EmotionEstimatedAccuracyLow")),
    ]


def _drift() -> list[Panel]:
    usual = "Below 0.1 is usual, above 0.2 for 15 minutes an alert fires; no value below 300 faces."
    return [
        graph(
            "Drift of the answers",
            f"Population stability index of the answered emotions against the reference. {usual}",
            query(f"job:emotion_class_drift:psi{{{VERSION}}}", "{{window}}, version {{model_version}}"),
        )
        .thresholds(limits(0.1, 0.2))
        .links(what_to_do("EmotionClassDrift")),
        graph(
            "Drift of the faces, and of confidence",
            f"Population stability index against the reference, by feature, over the time chosen above. {usual}",
            query(f"job:emotion_input_drift:psi{{{WINDOW}}}", "{{feature}}, version {{model_version}}"),
        )
        .thresholds(limits(0.1, 0.2))
        .links(what_to_do("EmotionInputDrift")),
        graph(
            "Divergence of the answers",
            "Jensen-Shannon divergence of the answered emotions from the reference, bits: 0 the same, 1 nothing "
            "in common.",
            query(f"job:emotion_class_drift:jensen_shannon{{{VERSION}}}", "{{window}}, version {{model_version}}"),
        ).links(what_to_do("EmotionClassDrift")),
    ]


def _feature(name: str, what: str) -> list[Panel]:
    chosen = f'{WINDOW}, feature="{name}"'
    return [
        heat(name.capitalize(), f"Of the faces: {what}.", rates(f"emotion_face_{name}", JOB)).span(12),
        bars(
            f"{name.capitalize()} against the reference",
            "Shares of bins by their lower end, over the time chosen above, beside those of the training faces.",
            "above",
            {
                "now": rows(_bins(f"job_bin:emotion_drift:smoothed_ratio{{{chosen}}}")),
                "reference": rows(_bins(f"job_bin:emotion_reference:share{{{chosen}}}")),
            },
            numeric=True,
        )
        .unit("percentunit")
        .links(what_to_do("EmotionInputDrift"))
        .span(12),
    ]


def _faces() -> list[Panel]:
    mean = f"sum(rate(emotion_faces_per_image_sum{{{JOB}}}[$__rate_interval]))"
    images = f"sum(rate(emotion_faces_per_image_count{{{JOB}}}[$__rate_interval]))"
    return [
        *(panel for name, what in FEATURES.items() for panel in _feature(name, what)),
        heat("Size", "Side of a face's crop in its image.", rates("emotion_face_size_pixels", JOB)),
        graph("Faces per image", "Mean.", query(f"{mean} / ({images} > 0)", "faces")),
        graph(
            "Faces that were looked at",
            "In the window of the drift scores: below 300 there is no score.",
            query(f"job:emotion_predictions:increase{{{VERSION}}}", "{{window}}, version {{model_version}}"),
        ),
    ]


def _accuracy() -> list[Panel]:
    said = f"sum by (actual, predicted) (increase(emotion_feedback_total{{{VERSION}}}[7d]))"
    return [
        graph(
            "Estimated accuracy",
            "Without labels: accuracy on the validation split plus the difference between mean confidence now and "
            "there. It sees a model that has become unsure, not one that is wrong and sure of it.",
            query(
                f"job:emotion_accuracy:estimated{{{VERSION}}}", "estimated over {{window}}, version {{model_version}}"
            ),
            query(f"job:emotion_reference:accuracy{{{VERSION}}}", "registered, version {{model_version}}"),
        )
        .unit("percentunit")
        .links(what_to_do("EmotionEstimatedAccuracyLow")),
        graph(
            "Live accuracy",
            "Of the answers that people judged (POST /feedback), at least 50; people correct sooner than they confirm. "
            "Below the floor, three standard errors under the registered accuracy, an alert fires.",
            query(f"job:emotion_accuracy:live{{{VERSION}}}", "live over {{window}}, version {{model_version}}"),
            query(f"job:emotion_accuracy:live_floor{{{VERSION}}}", "floor over {{window}}, version {{model_version}}"),
            query(f"job:emotion_reference:accuracy{{{VERSION}}}", "registered, version {{model_version}}"),
        )
        .unit("percentunit")
        .links(what_to_do("EmotionLiveAccuracyLow")),
        matrix(
            "What people said",
            "Answers of the last seven days that people judged: what was answered (across), what they said it is "
            "(down).",
            said,
            "predicted",
            "actual",
        ).links(what_to_do("EmotionLiveAccuracyLow")),
    ]


def _bins(values: str) -> str:
    """Shares by lower ends that are numbers: nothing is below 0."""
    return f'avg by (above) (label_replace({values}, "above", "0", "above", "-Inf"))'
