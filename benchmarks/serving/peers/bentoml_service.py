"""BentoML: `bentoml serve bentoml_service:Emotions`, with PEER_BUNDLE, PEER_WORKERS, PEER_BATCH and PEER_WAIT_MS.

Batches are BentoML's adaptive ones; PEER_BATCH=1 does without. PEER_WAIT_MS is `max_latency_ms`: what would take longer
is refused with 503, so it must be long under load. Images come as base64 in JSON: uploads, which BentoML writes to disk
first, take nearly twice the CPU.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import bentoml
import cv2
import numpy as np

from emotion_detection.bundle import read_bundle
from serving.engine import Engine

BATCH, WAIT_MS = int(os.environ["PEER_BATCH"]), int(os.environ["PEER_WAIT_MS"])
BATCHING = {"batchable": True, "max_batch_size": BATCH, "max_latency_ms": WAIT_MS} if BATCH > 1 else {}


@bentoml.service(
    workers=int(os.environ["PEER_WORKERS"]), traffic={"timeout": 60}, logging={"access": {"enabled": False}}
)
class Emotions:
    """The model of a bundle."""

    def __init__(self) -> None:
        cv2.setNumThreads(1)
        self.bundle = read_bundle(Path(os.environ["PEER_BUNDLE"]))
        self.engine = Engine(self.bundle)

    @bentoml.api(route="/detect", **BATCHING)
    def detect(self, inputs: list[str]) -> list[dict]:
        rows = self.engine.predict(np.concatenate([self.engine.crops(base64.b64decode(text)) for text in inputs]))
        return [dict(zip(self.bundle.info.labels, row, strict=True)) for row in rows.tolist()]
