"""Service: traffic, how long answers take, errors, saturation."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from monitoring.dashboards.boards import assemble, choice, fill, swaps
from monitoring.dashboards.parts import (
    Panel,
    at_least,
    columns,
    graph,
    heat,
    limits,
    number,
    query,
    rates,
    rows,
    stacked,
    states,
    what_to_do,
)

JOB = 'job="$job"'
REQUESTS = "emotion_http_request_duration_seconds"
BURNS = ("EmotionBudgetBurnsFast", "EmotionBudgetBurnsSlowly")
QUANTILES = {"half": 0.5, "95 %": 0.95, "99 %": 0.99}


def board() -> Dashboard:
    """The dashboard."""
    about = "Whether the server answers, how fast, and how much more it could take."
    job = choice("job", "Job", "label_values(emotion_model_ready, job)")
    return fill(
        assemble("service", about, [job]).annotation(swaps()),
        {"Now": _now(), "Traffic": _traffic(), "Latency": _latency(), "Errors": _errors(), "Saturation": _load()}
        | {"Alerts": _alerts()},
    )


def _now() -> list[Panel]:
    slowest = f"histogram_quantile(0.99, {_buckets()})"
    return [
        number("Requests", "Answered per second, whatever with.", query(_requests())).unit("reqps"),
        number(
            "Failed",
            "Share of the requests for an answer of the last five minutes that failed at the server (5xx). The "
            "objective allows 0.1 % over 30 days.",
            query(f'job_slo:emotion_errors:ratio{{{JOB}, slo="availability", window="5m"}}'),
        )
        .unit("percentunit")
        .thresholds(limits(0.001, 0.01))
        .links(what_to_do(*BURNS)),
        number("99 % within", "Of good answers of /detect, upload included.", query(slowest))
        .unit("s")
        .thresholds(limits(0.25, 0.5)),
        number(
            "Budget burns",
            "How many times as fast as the objective allows errors came in the last hour: 1 uses up the budget of 30 "
            "days in 30 days, 14.4 a fiftieth of it in an hour.",
            query(f'job_slo:emotion_budget:burn{{{JOB}, window="1h"}}', "{{slo}}"),
        )
        .thresholds(limits(1, 14.4))
        .links(what_to_do(*BURNS)),
        number("Instances", "That answer Prometheus.", query(f"sum(up{{{JOB}}})"))
        .thresholds(at_least(1))
        .links(what_to_do("EmotionInstanceDown", "EmotionNoInstance")),
        number(
            "Alerts",
            "That fire now, of all jobs; below is which.",
            query('count(ALERTS{alertname=~"Emotion.+", alertstate="firing"}) or vector(0)'),
        ).thresholds(limits(1)),
    ]


def _traffic() -> list[Panel]:
    faces = f"sum(rate(emotion_face_brightness_count{{{JOB}}}[$__rate_interval]))"
    images = f"sum(rate(emotion_faces_per_image_count{{{JOB}}}[$__rate_interval]))"
    return [
        stacked("Requests by route", "Answered per second.", query(f"{_requests('route')} > 0", "{{route}}")).unit(
            "reqps"
        ),
        stacked("Requests by status", "Answered per second.", query(f"{_requests('status')} > 0", "{{status}}")).unit(
            "reqps"
        ),
        graph(
            "Images and faces",
            "Per second: images that were searched or taken as a face, and faces that were judged.",
            query(images, "images"),
            query(faces, "faces"),
        ).unit("cps"),
    ]


def _latency() -> list[Panel]:
    stages = "emotion_stage_duration_seconds"
    quantiles = [
        query(f"histogram_quantile({share}, {_buckets()})", name).exemplar(share == max(QUANTILES.values()))
        for name, share in QUANTILES.items()
    ]
    return [
        heat("Latency of /detect", "Good answers, by how long they took; the upload counts.", _buckets(), "s").span(12),
        graph(
            "Latency of /detect",
            "Half, 95 % and 99 % of good answers took at most so long; points are single ones, with their ids.",
            *quantiles,
        )
        .unit("s")
        .thresholds(limits(0.5))
        .span(12),
        graph(
            "Where the time goes",
            "Mean: waiting for a worker (queue), decoding and cutting (decode; at_once by the event loop), of which "
            "searching faces (faces), the model, for a batch at a time (inference), heat maps (heat).",
            query(
                f"sum by (stage) (rate({stages}_sum{{{JOB}}}[$__rate_interval]))"
                f" / (sum by (stage) (rate({stages}_count{{{JOB}}}[$__rate_interval])) > 0)",
                "{{stage}}",
            ),
        )
        .unit("s")
        .span(12),
        graph(
            "Faces in a batch",
            "Mean number of faces in one run of the model: above 1 where requests wait for each other.",
            query(
                f"sum(rate(emotion_batch_size_sum{{{JOB}}}[$__rate_interval]))"
                f" / (sum(rate(emotion_batch_size_count{{{JOB}}}[$__rate_interval])) > 0)",
                "faces",
            ),
        ).span(12),
    ]


def _errors() -> list[Panel]:
    ratio = f'job_slo:emotion_errors:ratio{{{JOB}, window=~"5m|1h|1d"}}'
    rejected = f"sum by (reason) (rate(emotion_rejected_total{{{JOB}}}[$__rate_interval])) > 0"
    return [
        graph(
            "Errors against the objectives",
            "Share of requests: availability, those that failed at the server; latency, good ones above 0.5 s.",
            query(ratio, "{{slo}}, {{window}}"),
        ).unit("percentunit"),
        graph(
            "How fast the budgets burn",
            "1 uses the budget of 30 days up in 30 days. Alerts fire at 14.4 over an hour, 6 over six, 3 over a day, 1 "
            "over three days, each where a shorter window agrees.",
            query(f'job_slo:emotion_budget:burn{{{JOB}, window=~"1h|6h|1d|3d"}}', "{{slo}}, {{window}}"),
        )
        .thresholds(limits(1, 14.4))
        .links(what_to_do(*BURNS)),
        stacked(
            "Without a prediction",
            "Images and requests per second that got none, by reason; frames of a stream that a newer one overtook.",
            query(rejected, "{{reason}}"),
            query(f"sum(rate(emotion_stream_frames_dropped_total{{{JOB}}}[$__rate_interval]))", "frame overtaken"),
        ).unit("cps"),
    ]


def _load() -> list[Panel]:
    per_instance = "{{instance}}"
    return [
        graph(
            "Queue",
            "Share of the queue that is taken; when it is full, clients get 503. An alert fires above half for "
            "five minutes.",
            query(f"instance:emotion_queue:utilisation{{{JOB}}}", per_instance),
        )
        .unit("percentunit")
        .thresholds(limits(0.5))
        .links(what_to_do("EmotionQueueFills")),
        graph(
            "Workers",
            "Share of their time, over five minutes, that they decode or run the model.",
            query(f"instance:emotion_workers:utilisation{{{JOB}}}", per_instance),
        )
        .unit("percentunit")
        .thresholds(limits(0.9))
        .links(what_to_do("EmotionWorkersBusy")),
        graph(
            "At the same time",
            "Requests that are being answered, a mean over five minutes, and open streams.",
            query(f"instance:emotion_http_requests_in_flight:avg5m{{{JOB}}}", "requests, {{instance}}"),
            query(f"emotion_streams_open{{{JOB}}}", "streams, {{instance}}"),
        ),
        graph(
            "Processor",
            "Cores that the server's processes use.",
            query(f"rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval])", per_instance),
        ),
        graph(
            "Memory",
            "Resident, of all the server's processes.",
            query(f"process_resident_memory_bytes{{{JOB}}}", per_instance),
        ).unit("bytes"),
        graph(
            "Open files",
            "Share of what the system allows.",
            query(f"process_open_fds{{{JOB}}} / process_max_fds{{{JOB}}}", per_instance),
        )
        .unit("percentunit")
        .thresholds(limits(0.8)),
    ]


def _alerts() -> list[Panel]:
    alerts = 'ALERTS{alertname=~"Emotion.+"}'
    firing = 'ALERTS{alertname=~"Emotion.+", alertstate="firing"}'
    names = {"alertname": "alert", "alertstate": "state", "severity": "severity", "job": "job", "instance": "instance"}
    names |= {"model_version": "version", "feature": "feature", "slo": "objective", "window": "window"}
    return [
        states(
            "Alerts over time",
            "Pending: true, but not yet for long enough; firing: somebody is told.",
            {"1": ("pending", "orange"), "2": ("firing", "red")},
            query(f"max by (alertname) (2 * {firing}) or max by (alertname) ({alerts})", "{{alertname}}"),
        ).span(12),
        columns(
            "Alerts now", "What each means and what to do is in the runbook, linked above.", names, rows(alerts)
        ).span(12),
    ]


def _requests(by: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({REQUESTS}_count{{{JOB}}}[$__rate_interval]))"


def _buckets() -> str:
    return rates(REQUESTS, f'{JOB}, route="/detect", status="200"')
