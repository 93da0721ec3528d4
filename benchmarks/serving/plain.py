"""What most people write: an `UploadFile`, a `def` endpoint in FastAPI's thread pool, one image per run of the model.

    python -m benchmarks.serving.plain BUNDLE PORT

Same decoding, same ONNX Runtime session (one thread, no spinning), same uvicorn with uvloop and httptools.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import uvicorn
from fastapi import FastAPI, UploadFile

from emotion_detection.bundle import read_bundle
from serving.engine import Engine


def create_app(bundle_directory: Path) -> FastAPI:
    """The application."""
    bundle = read_bundle(bundle_directory)
    engine = Engine(bundle)
    cv2.setNumThreads(1)
    app = FastAPI()

    @app.post("/detect")
    def detect(file: UploadFile) -> dict[str, object]:
        row = engine.predict(engine.crops(file.file.read()))[0].tolist()
        probabilities = dict(zip(bundle.info.labels, row, strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        return {"label": label, "confidence": probabilities[label], "probabilities": probabilities}

    @app.get("/readyz")
    def ready() -> str:
        return "ready"

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(Path(sys.argv[1])), port=int(sys.argv[2]), loop="uvloop", http="httptools", access_log=False)
