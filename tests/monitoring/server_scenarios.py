"""As scenarios.py, for the rules on the server: objectives, load, model, registry."""

from __future__ import annotations

from tests.monitoring.rule_tests import Scenario, rising, series, turning


def server() -> Scenario:
    """Instances in their states, an hour of each."""
    test, steps = Scenario("server", "1m"), 70

    def state(name: str, instance: str, values: str | float, **labels: str) -> None:
        values = values if isinstance(values, str) else f"{values:g}x{steps}"
        test.series.append(series(name, values, job="emotion-server", instance=instance, **labels))

    for instance, up in (("well", 1), ("down", 0), ("restarted", f"1x20 0x1 1x{steps}")):
        state("up", instance, up)
    queues = {
        "well": 100,
        "full": 150,
        "peak": f"100x30 256x1 100x{steps}",
        "up and down": " ".join(["256", "60"] * 35),
        "later full": f"0x39 150x{steps}",
    }
    for instance, length in queues.items():
        state("emotion_queue_length", instance, length)
        state("emotion_queue_capacity", instance, 256)
        state("emotion_http_requests_in_flight", instance, rising(1, steps))
    for instance, busy in (
        ("well", rising(45, steps)),
        ("busy", rising(55, steps)),
        ("later", turning(45, 60, 40, steps)),
    ):
        state("emotion_worker_threads", instance, 2)
        state("emotion_stage_duration_seconds_sum", instance, rising(60, steps), stage="faces")
        for stage in ("decode", "inference"):
            state("emotion_stage_duration_seconds_sum", instance, busy, stage=stage)
    test.series.append(series("emotion_worker_threads", f"9x{steps}", job="another", instance="well"))
    for instance, ready, registry in (
        ("well", 1, 1),
        ("no model", 0, 1),
        ("alone", 1, 0),
        ("back", f"0x2 1x{steps}", f"0x5 1x{steps}"),
    ):
        state("emotion_model_ready", instance, ready)
        state("emotion_registry_up", instance, registry)
    for instance, refused in (("well", 0), ("refuses", f"0x20 1 0x{steps}")):
        state("emotion_registry_polls_total", instance, refused, result="refused")
        state("emotion_registry_polls_total", instance, rising(1, steps), result="unchanged")
    for instance, polled in (("well", rising(60, steps)), ("stopped", f"60+60x20 1200x{steps}"), ("directory", 0)):
        state("emotion_registry_last_poll_timestamp_seconds", instance, polled)

    for alert, instance, before, after in (
        ("EmotionInstanceDown", "down", "1m", "2m"),
        ("EmotionQueueFills", "full", "4m", "5m"),
        ("EmotionWorkersBusy", "busy", "19m", "20m"),
        ("EmotionModelNotReady", "no model", "2m", "3m"),
        ("EmotionModelRefused", "refuses", "21m", "22m"),
        ("EmotionRegistryUnreachable", "alone", "9m", "10m"),
        ("EmotionRegistryNotPolled", "stopped", "36m", "37m"),
    ):
        test.fires(before, alert)
        names = ["full", "up and down"] if instance == "full" else [instance]
        test.fires(after, alert, *[{"instance": name} for name in names])
    test.fires("22m", "EmotionInstanceDown", {"instance": "down"})
    test.fires("36m", "EmotionQueueFills", {"instance": "full"}, {"instance": "up and down"})
    test.fires("49m", "EmotionQueueFills", {"instance": "full"}, {"instance": "up and down"})
    late = [{"instance": instance} for instance in ("full", "up and down", "later full")]
    test.fires("51m", "EmotionQueueFills", *late)
    test.fires("58m", "EmotionWorkersBusy", {"instance": "busy"})
    test.fires("59m", "EmotionWorkersBusy", {"instance": "busy"}, {"instance": "later"})
    test.fires("45m", "EmotionModelRefused")
    test.fires("1h", "EmotionNoInstance")
    test.values("1h", "avg(instance:emotion_http_requests_in_flight:avg5m)", [({}, 57.5)])
    return test


def nobody_there() -> Scenario:
    """Prometheus scrapes others only."""
    test = Scenario("server", "1m", [series("up", "1x10", job="prometheus", instance="a")])
    test.fires("4m", "EmotionNoInstance")
    test.fires("5m", "EmotionNoInstance", {"job": "emotion-server"})
    return test


def old_model() -> Scenario:
    """Three months."""
    test = Scenario("server", "1d")
    for instance, created in (("old", 100_000), ("not so old", 1_000_000), ("directory", 0)):
        test.series.append(series("emotion_model_created_timestamp_seconds", f"{created}x110", instance=instance))
    test.fires("92d", "EmotionModelOld")
    test.fires("93d", "EmotionModelOld", {"instance": "old"})
    return test
