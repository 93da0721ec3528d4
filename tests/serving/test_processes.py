"""Several processes behind one port."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.serving.processes import Server, running
from tests.serving.test_server import assert_answers
from tests.serving.tiny import some_reference, wait_until, write_bundle

pytestmark = pytest.mark.slow


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(server: Server) -> Samples:
    """As any of the processes shows them."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(server.get("/metrics").text)
        for sample in family.samples
    }


def total(server: Server, name: str, /, **labels: str) -> float:
    return total_of(samples(server), name, **labels)


def total_of(found: Samples, name: str, /, **labels: str) -> float:
    return sum(
        value
        for (found_name, found_labels), value in found.items()
        if found_name == name and labels.items() <= found_labels
    )


def children(server: Server) -> list[psutil.Process]:
    """Those that serve."""
    return [child for child in psutil.Process(server.process.pid).children() if _serves(child)]


def _serves(child: psutil.Process) -> bool:
    try:
        return child.status() != "zombie" and "spawn_main" in " ".join(child.cmdline())
    except psutil.NoSuchProcess:  # it has just ended
        return False


def test_processes_share_the_port_and_add_up_their_metrics(tmp_path: Path) -> None:
    tiny = write_bundle(tmp_path / "bundle", reference=some_reference())
    with running(tmp_path, "--bundle", str(tiny.directory), "--processes", "2") as server:
        wait_until(lambda: server.log.read_text().count("Application startup complete") == 2)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda seed: assert_answers(server, tiny, seed), range(40)))
        httpx.post(f"{server.url}/detect", content=b"no image")
        for _ in range(6):  # whichever of the two answers
            shown = partial(total_of, samples(server))
            assert shown("emotion_predictions_total") == 40
            assert shown("emotion_batch_size_sum") == 40
            assert shown("emotion_rejected_total", reason="not-an-image") == 1
            assert shown("emotion_http_request_duration_seconds_count", route="/detect") == 41
            assert shown("emotion_queue_length") == 0
            assert shown("emotion_model_ready") == 1
            assert shown("emotion_model_info", name="tiny") == 1
            assert shown("emotion_reference_share") == pytest.approx(1)
            assert shown("emotion_reference_bin_share", feature="contrast") == pytest.approx(1)
            assert shown("emotion_face_brightness_count") == 40
            assert shown("emotion_prediction_entropy_count") == 40
            assert shown("emotion_queue_capacity") == 2 * 256
            assert shown("emotion_onnxruntime_info") == 1
            memory = sum(child.memory_info().rss for child in children(server))
            assert shown("process_resident_memory_bytes") == pytest.approx(memory, rel=0.1)
        lost, kept = children(server)
        lost.kill()
        wait_until(lambda: len(alive := children(server)) == 2 and lost not in alive)
        assert kept in children(server)
        wait_until(lambda: server.log.read_text().count("Application startup complete") == 3)
        assert_answers(server, tiny)
        assert total(server, "emotion_predictions_total") == 41  # what the lost one counted stays
        assert total(server, "emotion_model_ready") == 1
        before = set(children(server))
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(alive := children(server)) == 2 and before.isdisjoint(alive))
        # Of processes that are gone nothing is left: neither their queues nor their memory.
        wait_until(lambda: total(server, "emotion_queue_capacity") == 2 * 256)
        memory = sum(child.memory_info().rss for child in children(server))
        assert total(server, "process_resident_memory_bytes") == pytest.approx(memory, rel=0.1)
        assert total(server, "emotion_predictions_total") == 41
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) in (0, -signal.SIGTERM)
    assert "Traceback" not in server.log.read_text()
    assert "Warning" not in server.log.read_text()
