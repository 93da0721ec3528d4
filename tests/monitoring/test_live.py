"""A real Prometheus with these rules, and the real server: what is measured there, NumPy says as well."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from benchmarks.monitoring.panels import SHOWN, Shown, picture
from emotion_detection.bundle import BUNDLE_FILE, BundleInfo
from emotion_detection.reference import EDGES
from monitoring.stack import Addresses, Times, write_configs
from tests.clone import free_port, wait_for
from tests.drift import jensen_shannon, population_stability_index
from tests.monitoring.panels import BOARDS, panels, queries, written
from tests.monitoring.programs import pushgateway, webhook
from tests.monitoring.prometheus import RULES, need_prometheus
from tests.monitoring.pushed import Challenged, push_all
from tests.monitoring.rule_tests import all_rules
from tests.project import copy_project
from tests.serving.processes import Server, running
from tests.serving.tiny import LABELS, encode, some_reference, wait_until, write_bundle

FACES, JUDGED = 330, 120
"""The first ones are judged: every other one is said to be wrong."""

pytestmark = pytest.mark.slow


class Prometheus:
    """One that runs."""

    def __init__(self, url: str) -> None:
        self.url, self.then = url, 0.0
        """`then`: when all was seen, seconds since 1970."""

    def ask(self, path: str, **parameters: object) -> Any:
        return httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=20).raise_for_status().json()["data"]

    def values(self, expression: str, at: float | None = None) -> dict[tuple[tuple[str, str], ...], float]:
        """Of an instant: values by their labels, without name and job."""
        found = self.ask("query", query=expression, **({} if at is None else {"time": at}))["result"]
        return {
            tuple(sorted((k, v) for k, v in one["metric"].items() if k not in ("__name__", "job"))): float(
                one["value"][1]
            )
            for one in found
        }


@contextmanager
def prometheus(directory: Path, **urls: str) -> Iterator[Prometheus]:
    """Scrapes a server every second, and evaluates as often; `urls` are those of `Addresses`."""
    need_prometheus()
    rules = directory / "rules"
    rules.mkdir(parents=True)
    for path in RULES.glob("*.yml"):
        (rules / path.name).write_text(re.sub(r"interval: \w+", "interval: 1s", path.read_text()))
    address = f"127.0.0.1:{free_port()}"
    targets = {name: url.removeprefix("http://") for name, url in urls.items()}
    write_configs(directory, Addresses(prometheus=address, **targets), Times(scrape="1s"), rules=rules)
    command = ["prometheus", f"--config.file={directory / 'prometheus.yml'}", f"--web.listen-address={address}"]
    command += ["--enable-feature=exemplar-storage"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--storage.tsdb.path={directory / 'data'}"], stdout=log, stderr=log)
    try:
        wait_for(f"http://{address}/-/ready")
        yield Prometheus(f"http://{address}")
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, project_template: Path) -> Iterator[tuple[Server, Prometheus]]:
    """A server that was asked for `FACES` faces and told of `JUDGED` what they show, and what Prometheus has seen of
    it, of a webhook, of a pipeline, and as it would be with a challenger.
    """
    need_prometheus()
    directory = tmp_path_factory.mktemp("watched")
    bundle = write_bundle(directory / "bundle", seed=1, spread=9, reference=some_reference())
    with (
        running(directory, "--bundle", str(bundle.directory), EMOTION_FACE_MODEL="") as server,
        webhook(directory) as retrain,
        pushgateway(directory / "pushgateway") as pushed,
        prometheus(directory / "prometheus", server=server.url, retrain=retrain.url, pushgateway=pushed) as watching,
    ):
        push_all(copy_project(project_template, directory / "project"), pushed)
        challenged = Challenged(pushed)
        wait_until(lambda: bool(watching.values("emotion_model_ready == 1")))
        with ThreadPoolExecutor(4) as pool, httpx.Client(timeout=60) as client:

            def ask(seed: int) -> None:
                answer = client.post(f"{server.url}/detect", files={"file": encode(seed)}).raise_for_status().json()
                if seed < JUDGED:
                    label = LABELS[(LABELS.index(answer["label"]) + seed % 2) % len(LABELS)]
                    said = {"prediction_id": answer["prediction_id"], "label": label}
                    client.post(f"{server.url}/feedback", json=said).raise_for_status()

            list(pool.map(ask, range(FACES)))
            assert client.post(f"{server.url}/detect", content=b"no image").status_code == 415
        challenged.judge(2 * FACES)
        wait_until(lambda: bool(watching.values("job:emotion_input_drift:psi > 0")), seconds=60)
        wait_until(lambda: bool(watching.values("job:emotion_shadow:disagreement")), seconds=60)
        time.sleep(2)
        [counted] = watching.values("sum(emotion_predictions_total)").values()
        assert counted == FACES
        watching.then = time.time()
        yield server, watching


def test_psi_and_jensen_shannon_are_those_of_numpy(watched: tuple[Server, Prometheus]) -> None:
    server, prometheus = watched
    info = BundleInfo.model_validate_json((server.log.parent / "bundle" / BUNDLE_FILE).read_bytes())
    assert info.reference is not None
    shares = [info.reference.predicted_shares()[emotion] for emotion in LABELS]
    for name, statistic in (("psi", population_stability_index), ("jensen_shannon", jensen_shannon)):
        for window in ("1h", "1d"):
            counts, found = _class_counts(prometheus, name, window)
            assert FACES - 1 < sum(counts) < 1.6 * FACES  # increase() extrapolates from few scrapes
            assert found > 0.01
            assert abs(found - statistic(shares, counts)) < 1e-6
    for feature in ("brightness", "contrast", "sharpness", "confidence"):
        counts, found = _bin_counts(prometheus, feature)
        assert len(counts) == len(EDGES[feature]) + 1
        assert abs(found - population_stability_index(info.reference.histogram(feature).shares(), counts)) < 1e-6


def _class_counts(prometheus: Prometheus, statistic: str, window: str) -> tuple[list[float], float]:
    """What the rule saw, in the order of the labels, and what it made of it."""
    at = next(iter(prometheus.values(f'timestamp(job:emotion_class_drift:{statistic}{{window="{window}"}})').values()))
    [found] = prometheus.values(f'job:emotion_class_drift:{statistic}{{window="{window}"}}', at).values()
    counts = prometheus.values(f'sum by (emotion) (job_class:emotion_predictions:increase{{window="{window}"}})', at)
    return [counts[(("emotion", emotion),)] for emotion in LABELS], found


def _bin_counts(prometheus: Prometheus, feature: str) -> tuple[list[float], float]:
    chosen = f'{{feature="{feature}", window="1h"}}'
    at = next(iter(prometheus.values(f"timestamp(job:emotion_input_drift:psi{chosen})").values()))
    [found] = prometheus.values(f"job:emotion_input_drift:psi{chosen}", at).values()
    counts = prometheus.values(f"sum by (above) (job_bin:emotion_drift:increase{chosen})", at)
    return [count for _, count in sorted(counts.items(), key=lambda one: float(one[0][0][1]))], found


def test_the_estimated_accuracy_is_that_of_the_confidences(watched: tuple[Server, Prometheus]) -> None:
    server, prometheus = watched
    sums = {
        sample.name: sample.value
        for family in parse_text(server.get("/metrics").text)
        for sample in family.samples
        if sample.name.startswith("emotion_prediction_confidence")
    }
    mean = sums["emotion_prediction_confidence_sum"] / sums["emotion_prediction_confidence_count"]
    [estimated] = prometheus.values('job:emotion_accuracy:estimated{window="1h"}').values()
    assert estimated == pytest.approx(mean + 0.8 - 0.78, abs=1e-3)


def test_the_live_accuracy_is_that_of_the_feedback(watched: tuple[Server, Prometheus]) -> None:
    _, prometheus = watched
    cells = prometheus.values("emotion_feedback_total")
    right = sum(count for labels, count in cells.items() if dict(labels)["predicted"] == dict(labels)["actual"])
    assert (len(cells), sum(cells.values()), right) == (len(LABELS) ** 2, JUDGED, JUDGED / 2)
    found = prometheus.values("job:emotion_accuracy:live")
    assert {dict(labels)["window"] for labels in found} == {"1d", "7d"}
    assert list(found.values()) == pytest.approx([0.5, 0.5], abs=1e-3)


def test_every_metric_that_a_rule_names_is_there(watched: tuple[Server, Prometheus]) -> None:
    _, prometheus = watched
    text = " ".join(rule["expr"] for rule in all_rules())
    named = set(re.findall(r"(?<![\w:])emotion_\w+(?![\w:])", text))
    assert len(named) > 15
    assert named - served(prometheus) == set()
    recorded = {rule["record"] for rule in all_rules() if "record" in rule}
    assert set(re.findall(r"[\w]+:[\w:]+", text)) - recorded == set()


def served(prometheus: Prometheus) -> set[str]:
    """Names of all metrics that were seen."""
    return set(prometheus.ask("label/__name__/values"))


def test_every_panel_asks_for_metrics_that_are_there_and_gets_figures(watched: tuple[Server, Prometheus]) -> None:
    _, prometheus = watched
    known = served(prometheus) | {rule["record"] for rule in all_rules() if "record" in rule}
    empty = set()
    for board in BOARDS:
        for title, expression in queries(board):
            names = set(re.findall(r"(?<![\w:$\"])(?:emotion_|process_)\w+|\w+:\w[\w:]*|\bup\b", expression))
            assert names - known == set(), title
            values = prometheus.values(written(expression), prometheus.then)
            assert all(map(isfinite, values.values())), title
            if not values:
                empty.add(title)
    assert empty == {"Age"}  # the model was never registered


def test_the_latency_has_answers_that_can_be_looked_up(watched: tuple[Server, Prometheus]) -> None:
    _, prometheus = watched
    [expression] = {
        target["expr"] for panel in panels("service") for target in panel["targets"] if target.get("exemplar")
    }
    found = prometheus.ask(
        "query_exemplars", query=written(expression), start=prometheus.then - 60, end=prometheus.then
    )
    examples = [one["labels"] for series in found for one in series["exemplars"]]
    assert {"request_id", "prediction_id"} in map(set, examples)


def test_the_panels_of_the_readme_can_be_drawn(watched: tuple[Server, Prometheus]) -> None:
    _, prometheus = watched
    shown = Shown(prometheus.url, prometheus.then - 20, prometheus.then - 10, prometheus.then)
    for board, titles in SHOWN.items():
        axes = picture(board, shown, "blur").axes
        assert [one.get_title(loc="left") for one in axes if one.has_data()] == list(titles)


def test_every_rule_is_evaluated_without_an_error_and_drift_is_told(watched: tuple[Server, Prometheus]) -> None:
    _, prometheus = watched
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == len(all_rules())
    assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}
    assert {rule["health"] for rule in rules} == {"ok"}
    pending = {alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"]}
    assert {"EmotionInputDrift", "EmotionClassDrift", "EmotionLiveAccuracyLow"} <= pending
