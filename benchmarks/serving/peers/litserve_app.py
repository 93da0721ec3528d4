"""LitServe: `python litserve_app.py PORT`, with PEER_BUNDLE, PEER_WORKERS, PEER_BATCH and PEER_WAIT_MS.

An image is decoded in the worker that runs the model, as LitServe means it; workers are processes. Images come as
base64 in JSON, and `fast_queue` is on: uploads took a third more CPU, the other queue answered less.
"""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import litserve
import numpy as np

from emotion_detection.bundle import read_bundle
from serving.engine import Engine


class Emotions(litserve.LitAPI):
    """The model of a bundle."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        cv2.setNumThreads(1)
        self.bundle = read_bundle(Path(os.environ["PEER_BUNDLE"]))
        self.engine = Engine(self.bundle)

    def decode_request(self, request) -> Any:  # type: ignore[no-untyped-def]  # LitServe looks at annotations
        return self.engine.crops(base64.b64decode(request["inputs"][0]))

    def batch(self, inputs: list[Any]) -> Any:
        return np.concatenate(inputs)

    def predict(self, images: Any) -> Any:
        return self.engine.predict(images)

    def unbatch(self, output: Any) -> Any:
        return list(output)

    def encode_response(self, output: Any) -> dict[str, object]:
        probabilities = dict(zip(self.bundle.info.labels, np.ravel(output).tolist(), strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        return {"label": label, "confidence": probabilities[label], "probabilities": probabilities}


if __name__ == "__main__":
    api = Emotions(
        max_batch_size=int(os.environ["PEER_BATCH"]),
        batch_timeout=int(os.environ["PEER_WAIT_MS"]) / 1000,
        api_path="/detect",
    )
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=int(os.environ["PEER_WORKERS"]), fast_queue=True, timeout=60
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False, access_log=False)
