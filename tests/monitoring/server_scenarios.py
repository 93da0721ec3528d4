"""As scenarios.py, for the rules on the server: objectives, load, model, registry."""

from __future__ import annotations

from tests.monitoring.rule_tests import Labels, Scenario, restarting, rising, series, turning

REQUESTS = "emotion_http_request_duration_seconds"
DETECT, INFER = "/detect", "/v2/models/{name}/infer"


def slo_of_hours() -> Scenario:
    """What needs a window of six hours at most; a day is no longer than that here."""
    test, steps = Scenario("slo", "5m"), 84

    def job(name: str, failed: float, slow: float = 0, good: float = 1000, before: float | None = None) -> None:
        # The load turns bad, or good again, after 6 h 20 min.
        turn = 76
        for route, share in ((DETECT, 0.5), (INFER, 0.5)):
            for status, first, rate in (("200", good, good), ("503", failed if before is None else before, failed)):
                labels = {"job": name, "route": route, "status": status}
                values = turning(first * share, rate * share, turn, steps)
                if name == "restarted":
                    values = restarting(rate * share, 75, steps)
                test.series.append(series(f"{REQUESTS}_count", values, **labels))
            count = restarting if name == "restarted" else lambda rate, _, steps: rising(rate, steps)
            fast = count((good - slow) * share, 75, steps)
            labels = {"job": name, "route": route, "status": "200", "le": "0.5"}
            test.series.append(series(f"{REQUESTS}_bucket", fast, **labels))
        for route, status in (("/metrics", "500"), ("unmatched", "503")):  # nobody's answers
            test.series.append(series(f"{REQUESTS}_count", rising(100, steps), job=name, route=route, status=status))
        test.series.append(series(f"{REQUESTS}_count", rising(100, steps), job=name, route="/explain", status="200"))

    for name, failed in {
        "good": 0,
        "failing": 20,
        "burning for hours": 8,
        "just burning": 6.2,
        "near fast": 13.5,
    }.items():
        job(name, failed)
    job("slow", 0, slow=160)
    job("less slow", 0, slow=100)
    job("turned bad", 300, before=0)
    job("turned good", 0, before=20)
    job("hardly asked", 0.02, good=0)
    job("asleep", 0, good=0)
    job("restarted", 20, slow=160)
    job("turned better", 13.5, before=20)
    job("easing", 6, before=8)
    lengths = {"5m": 1, "30m": 6, "1h": 12, "2h": 24, "6h": 72, "1d": 76, "3d": 76}  # in steps, from the start at most
    for record, rates in (("requests", (1120, 1000)), ("errors", (20, 160))):
        found = [
            ({"job": "restarted", "slo": slo, "window": window}, rate * length)
            for slo, rate in zip(("availability", "latency"), rates, strict=True)
            for window, length in lengths.items()
        ]
        test.values("6h20m", f'job_slo:emotion_{record}:increase{{job="restarted"}}', found)

    total = {"good": 1100, "failing": 1120, "burning for hours": 1108, "just burning": 1106.2, "turned good": 1120}
    failed = {"good": 0, "failing": 20, "burning for hours": 8, "just burning": 6.2, "turned good": 20}
    burns = [({"job": job, "window": "6h"}, failed[job] / total[job] / 0.001) for job in total]
    names = "|".join(total)
    burn = f'sum by (job, window) (job_slo:emotion_budget:burn{{slo="availability", window="6h", job=~"{names}"}})'
    test.values("6h20m", burn, burns)
    windows = ("5m", "30m", "1h", "2h", "6h")
    chosen = f'slo="latency", window=~"{"|".join(windows)}", job=~"slow|less slow"'
    slow = f"sum by (job, window) (job_slo:emotion_budget:burn{{{chosen}}})"
    test.values(
        "6h20m", slow, [({"job": j, "window": w}, r) for j, r in (("slow", 16), ("less slow", 10)) for w in windows]
    )
    test.values("6h20m", 'count by (job) (job_slo:emotion_budget:burn{job="asleep", slo="latency"})', [])

    def fast(job: str, slo: str, *windows: str) -> list[Labels]:
        return [{"job": job, "slo": slo, "window": window} for window in windows]

    always = fast("failing", "availability", "1h", "6h") + fast("slow", "latency", "1h", "6h")
    always += fast("restarted", "availability", "1h", "6h") + fast("restarted", "latency", "1h", "6h")
    always += fast("near fast", "availability", "6h") + fast("turned better", "availability", "6h")
    easing, better = fast("easing", "availability", "6h"), fast("turned better", "availability", "1h")
    always += fast("less slow", "latency", "6h") + fast("burning for hours", "availability", "6h")
    test.fires(
        "6h20m", "EmotionBudgetBurnsFast", *always, *easing, *better, *fast("turned good", "availability", "1h", "6h")
    )
    # Five minutes of failures are 4 % of an hour; they show in the short windows first.
    test.fires("6h25m", "EmotionBudgetBurnsFast", *always, *easing, *fast("turned good", "availability", "6h"),
               *fast("turned bad", "availability", "1h"))  # fmt: skip
    test.fires("7h", "EmotionBudgetBurnsFast", *always, *fast("turned bad", "availability", "1h", "6h"))
    return test


def slo_of_days() -> Scenario:
    """What needs days."""
    test, steps = Scenario("slo", "30m"), 160

    def job(name: str, failed: float, after: float | None = None, good: float = 1000) -> None:
        for status, first, second in (("200", good, good), ("500", failed, failed if after is None else after)):
            values = turning(first, second, 150, steps)
            test.series.append(series(f"{REQUESTS}_count", values, job=name, route=DETECT, status=status))

    job("good", 0.5)
    job("failing", 4)
    job("a little", 1.2)
    job("turned good", 4, after=0)
    job("turned bad", 0, after=400)
    job("hardly asked", 0.02, good=1)

    def slowly(job: str, *windows: str) -> list[Labels]:
        return [{"job": job, "slo": "availability", "window": window} for window in windows]

    always = slowly("failing", "1d", "3d") + slowly("a little", "3d")
    test.fires("75h", "EmotionBudgetBurnsSlowly", *always, *slowly("turned good", "1d", "3d"))
    test.fires(
        "76h", "EmotionBudgetBurnsSlowly", *always, *slowly("turned good", "3d"), *slowly("turned bad", "1d", "3d")
    )
    test.fires("79h30m", "EmotionBudgetBurnsSlowly", *always, *slowly("turned bad", "1d", "3d"))
    return test


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
