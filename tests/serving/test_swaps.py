"""benchmarks/serving/swaps.py: its clients."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from benchmarks.serving import swaps
from tests.serving.tiny import wait_until

ANSWER = json.dumps({"prediction_id": "1-x", "model": {"version": "1"}, "probabilities": {"happy": 1.0}}).encode()


class Late(BaseHTTPRequestHandler):
    """Answers every request but the first."""

    protocol_version = "HTTP/1.1"
    first, ended = threading.Lock(), threading.Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.first.acquire(blocking=False):
            self.ended.wait(20)
            return
        self.send_response(200)
        self.send_header("X-Model-Version", "1")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_a_client_goes_on_after_a_request_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swaps, "PATIENCE", 0.2)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Late)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        with swaps.Clients(url, b"image", {"1": np.ones(1)}, count=1, pause=0.01) as clients:
            wait_until(lambda: clients.outcome.answers > 3, seconds=20)
    finally:
        Late.ended.set()
        server.shutdown()
        thread.join(20)
        server.server_close()
    assert (len(clients.outcome.failed), clients.outcome.wrong) == (1, 0)
    assert "timed out" in clients.outcome.failed[0]
