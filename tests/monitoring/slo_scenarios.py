"""As scenarios.py, for the objectives: how fast their budgets of errors burn, and who is told."""

from __future__ import annotations

from tests.monitoring.rule_tests import Labels, Scenario, restarting, rising, series, turning

REQUESTS = "emotion_http_request_duration_seconds"
DETECT, INFER = "/detect", "/v2/models/{name}/infer"
Rates = tuple[float, float]
"""In a step, before and after a turn."""


def burning(job: str, windows: str, slo: str = "availability") -> list[Labels]:
    """Labels of alerts; windows are separated by blanks."""
    return [{"job": job, "slo": slo, "window": window} for window in windows.split()]


def load(test: Scenario, job: str, good: float, failed: Rates, slow: Rates | None, *, turn: int, steps: int) -> None:
    """Requests for `/detect` that fail and, of the good ones, are slow at rates that turn after so many steps."""
    labels = {"job": job, "route": DETECT}
    test.series.append(series(f"{REQUESTS}_count", rising(good, steps), **labels, status="200"))
    test.series.append(series(f"{REQUESTS}_count", turning(*failed, turn, steps), **labels, status="500"))
    if slow:
        fast = turning(good - slow[0], good - slow[1], turn, steps)
        test.series.append(series(f"{REQUESTS}_bucket", fast, **labels, status="200", le="0.5"))


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
    }.items():
        job(name, failed)
    job("slow", 0, slow=160)
    job("less slow", 0, slow=100)
    job("turned bad", 300, before=0)
    job("turned good", 0, before=20)
    job("hardly asked", 0.02, good=0)
    job("asleep", 0, good=0)
    job("restarted", 20, slow=160)
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

    always = burning("failing", "1h 6h") + burning("slow", "1h 6h", "latency")
    always += burning("restarted", "1h 6h") + burning("restarted", "1h 6h", "latency")
    always += burning("less slow", "6h", "latency") + burning("burning for hours", "6h")
    test.fires("6h20m", "EmotionBudgetBurnsFast", *always, *burning("turned good", "1h 6h"))
    # Five minutes of failures are 4 % of an hour; they show in the short windows first.
    test.fires("6h25m", "EmotionBudgetBurnsFast", *always, *burning("turned good", "6h"),
               *burning("turned bad", "1h"))  # fmt: skip
    test.fires("7h", "EmotionBudgetBurnsFast", *always, *burning("turned bad", "1h 6h"))
    return test


def slo_limits_of_hours() -> Scenario:
    """What turns after 6 h 20 min to just below or above a limit; one window may not stand for another, nor one
    objective or job for another."""
    test = Scenario("slo", "5m")

    def job(name: str, good: float, failed: Rates, slow: Rates | None = None) -> None:
        load(test, name, good, failed, slow, turn=76, steps=84)

    job("worse fast", 1000, (13, 16))
    job("worse", 1000, (5, 7))
    job("easing fast", 1000, (20, 12))
    job("easing", 1000, (8, 4.5))
    job("just burning", 1000, (6.5, 6.5))
    job("few", 1, (0, 1))
    job("few, and slow", 5, (0, 1), (0, 2))
    job("failed, then slow", 1000, (50, 0), (0, 300))
    one = 'job_slo:emotion_errors:ratio{job="few", window="5m"}'  # of a single request
    test.values("6h", one, [({"job": "few", "slo": "availability", "window": "5m"}, 0)])

    always = burning("worse fast", "6h") + burning("easing fast", "6h") + burning("just burning", "6h")
    test.fires("6h40m", "EmotionBudgetBurnsFast", *always, *burning("failed, then slow", "6h"))
    few = burning("few", "1h 6h") + burning("few, and slow", "1h 6h")  # with the fifth failure
    few += burning("few, and slow", "1h", "latency")
    test.fires("6h45m", "EmotionBudgetBurnsFast", *always, *few, *burning("failed, then slow", "6h"))
    later = burning("worse fast", "1h") + burning("failed, then slow", "1h", "latency")
    test.fires("7h", "EmotionBudgetBurnsFast", *always, *few, *later)
    return test


def slo_of_days() -> Scenario:
    """What needs days; it turns after 75 hours."""
    test = Scenario("slo", "30m")

    def job(name: str, failed: Rates, slow: Rates | None = None, good: float = 1000) -> None:
        load(test, name, good, failed, slow, turn=150, steps=160)

    job("good", (0.5, 0.5))
    job("failing", (3.5, 3.5))
    job("a little", (1.2, 1.2))
    job("turned good", (4, 0))
    job("turned bad", (0, 400))
    job("hardly asked", (0.02, 0.02), good=1)
    job("worse", (2.5, 5))
    job("easing", (4, 2.5))
    job("a little worse", (0.8, 1.2))
    job("easing a little", (1.3, 0.75))
    job("few", (0, 1), good=1)
    job("few, and slow", (0, 1), (0, 2), good=10)
    job("failed, then slow", (3.9, 0), (0, 60))

    both, third = "1d 3d", "3d"
    always = burning("failing", both) + burning("a little", third) + burning("worse", third) + burning("easing", third)
    easing, past = burning("easing", "1d") + burning("easing a little", third), burning("failed, then slow", third)
    test.fires("75h", "EmotionBudgetBurnsSlowly", *always, *easing, *past,
               *burning("turned good", both), *burning("failed, then slow", "1d"))  # fmt: skip
    always += burning("turned bad", both)
    fading = burning("turned good", third) + burning("easing a little", third) + past
    test.fires("76h", "EmotionBudgetBurnsSlowly", *always, *fading, *burning("easing", "1d"))
    test.fires("77h", "EmotionBudgetBurnsSlowly", *always, *fading)
    few = burning("few", both) + burning("few, and slow", both)  # with the fifth failure
    test.fires("77h30m", "EmotionBudgetBurnsSlowly", *always, *fading, *few)
    test.fires("79h30m", "EmotionBudgetBurnsSlowly", *always, *few, *burning("few, and slow", both, "latency"))
    return test
