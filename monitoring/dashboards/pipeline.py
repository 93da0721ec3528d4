"""Pipeline: runs and their stages, data, models, the gate, retrainings that alerts have started."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, FieldColor
from grafana_foundation_sdk.models.dashboard import FieldColorModeId

from monitoring.dashboards.boards import assemble, choice, fill
from monitoring.dashboards.parts import (
    Panel,
    at_least,
    columns,
    graph,
    limits,
    matrix,
    number,
    query,
    rows,
    stacked,
    unit,
    what_to_do,
)

RUN = '{stage="run"}'
MODEL = '{model=~"$model"}'


def board() -> Dashboard:
    """The dashboard."""
    about = "What became of `emotion run`, stage by stage: pushed where PUSHGATEWAY_URL names a Pushgateway."
    models = choice("model", "Model", "label_values(emotion_pipeline_accuracy, model)", several=True)
    return fill(
        assemble("pipeline", about, [models]),
        {"Runs": _runs(), "Data": _data(), "Models": _models(), "Gate": _gate(), "Retraining by alerts": _retraining()},
    )


def _runs() -> list[Panel]:
    succeeded, failed = (f"emotion_pipeline_{end}_timestamp_seconds" for end in ("success", "failure"))
    names = {"stage": "stage", "model": "model", "Value #A": "duration", "Value #B": "since it succeeded"}
    broken = f"count(max by (stage, model) ({failed}) > on (stage, model) (max by (stage, model) ({succeeded})))"
    return [
        number("Last run", "Since `emotion run` last ended well.", query(f"time() - max({succeeded}{RUN})")).unit("s"),
        number(
            "It took", "With what DVC did not have to do again.", query(f"max(emotion_pipeline_duration_seconds{RUN})")
        ).unit("s"),
        number(
            "Runs",
            "That ended well, in the time that is shown.",
            query(f"sum(changes({succeeded}{RUN}[$__range])) or vector(0)"),
        ),
        number(
            "Failed runs", "In the time that is shown.", query(f"sum(changes({failed}{RUN}[$__range])) or vector(0)")
        ).thresholds(limits(1)),
        number(
            "Broken stages", "That failed after they had last succeeded.", query(f"{broken} or vector(0)")
        ).thresholds(limits(1)),
        number("Images", "That are used, of all splits.", query("sum(emotion_pipeline_images)")),
        columns(
            "Stages",
            "Each as it last ran: what DVC skips has not run again.",
            names,
            rows("max by (stage, model) (emotion_pipeline_duration_seconds)"),
            rows(f"time() - max by (stage, model) ({succeeded})"),
        )
        .override_by_name("duration", unit("s"))
        .override_by_name("since it succeeded", unit("s"))
        .span(12),
        graph(
            "Durations",
            "Of each stage as it last ran.",
            query('max by (stage, model) (emotion_pipeline_duration_seconds{stage!="run"})', "{{stage}} {{model}}"),
        )
        .unit("s")
        .span(12),
    ]


def _data() -> list[Panel]:
    return [
        matrix(
            "Images",
            "That are used, by split and emotion.",
            "sum by (split, emotion) (emotion_pipeline_images)",
            "split",
            "emotion",
        ),
        stacked(
            "Images over time",
            "That are used, by split.",
            query("sum by (split) (emotion_pipeline_images)", "{{split}}"),
        ),
        matrix(
            "Left out",
            "Images that validation dropped, by split and reason; data/decisions.parquet names each of them.",
            "sum by (split, reason) (emotion_pipeline_images_dropped)",
            "split",
            "reason",
        ),
    ]


def _models() -> list[Panel]:
    accuracy = 'emotion_pipeline_accuracy{model=~"$model", split="%s"}'
    names = {"model": "model", "Value #A": "accuracy", "Value #B": "from", "Value #C": "to", "Value #D": "macro-F1"}
    names |= {"Value #E": "ECE", "Value #F": "training", "Value #G": "epochs", "Value #H": "parameters"}
    test = '{model=~"$model", split="test"}'
    figures = [f"emotion_pipeline_{name}{test}" for name in ("accuracy", "accuracy_low", "accuracy_high", "macro_f1")]
    figures += [f"emotion_pipeline_calibration_error{test}"]
    figures += [f"emotion_pipeline_{name}{MODEL}" for name in ("training_seconds", "training_epochs", "parameters")]
    queries = [rows(f"max by (model) ({each})") for each in figures]
    table = columns("Models", "On the test split, accuracy with its interval.", names, *queries)
    for column in ("accuracy", "from", "to", "macro-F1"):
        table = table.override_by_name(column, unit("percentunit"))
    return [
        table.override_by_name("training", unit("s")).span(12),
        graph(
            "Accuracy over time",
            "Of each model as it was last judged; the choice between models is made on val.",
            query(accuracy % "test", "{{model}}, test"),
            query(accuracy % "val", "{{model}}, val"),
        )
        .unit("percentunit")
        .span(12),
    ]


def _gate() -> list[Panel]:
    labels = "model, version, check"
    names = {"model": "model", "version": "version", "check": "check", "Value #A": "found", "bound": "must be"}
    names |= {"Value #B": "required"}
    return [
        matrix(
            "Verdict",
            "1: the version meets what the gate asks for, as it was last judged.",
            f"min by (model, check) (emotion_gate_check_passed{MODEL})",
            "model",
            "check",
        )
        .thresholds(at_least(1))
        .color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS)),
        columns(
            "Evidence",
            "What the gate found, and what it asks for.",
            names,
            rows(f"max by ({labels}) (emotion_gate_check_value{MODEL})"),
            rows(f"max by ({labels}, bound) (emotion_gate_check_required{MODEL})"),
        ),
        columns(
            "What became of them",
            "Of each model's version that was last judged.",
            {"model": "model", "version": "version", "outcome": "outcome"},
            rows(f"emotion_gate_outcome{MODEL} == 1"),
        ),
    ]


def _retraining() -> list[Panel]:
    job = '{job="emotion-retrain"}'
    return [
        stacked(
            "Notifications",
            "Of Alertmanager to the retrain webhook, by what became of them.",
            query(
                f"sum by (decision) (increase(emotion_retrain_decisions_total{job}[$__rate_interval]))", "{{decision}}"
            ),
        ).links(what_to_do("EmotionRetrainDown")),
        graph(
            "Retrainings",
            "Running now; ended, by result; not started, or not even looked at, by reason.",
            query(f"max(emotion_retrain_commands_running{job})", "running"),
            query(
                f"sum by (result) (increase(emotion_retrain_commands_ended_total{job}[$__rate_interval]))", "{{result}}"
            ),
            query(
                f"sum by (reason) (increase(emotion_retrain_failures_total{job}[$__rate_interval]))",
                "not started: {{reason}}",
            ),
            query(
                f"sum by (reason) (increase(emotion_retrain_rejected_total{job}[$__rate_interval]))",
                "refused: {{reason}}",
            ),
        ).links(what_to_do("EmotionRetrainFails", "EmotionRetrainRejected", "EmotionRetrainCommandFailed")),
        number(
            "Cooldown",
            "For so long there will be no other retraining.",
            query(f"max(emotion_retrain_cooldown_seconds{job})"),
        )
        .unit("s")
        .span(8),
    ]
