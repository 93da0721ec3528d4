"""MLflow: a model from code for `mlflow models serve`; `python mlflow_model.py BUNDLE DIRECTORY` saves it.

Images come as base64 in JSON, the way that the scoring server takes bytes. It has no batching of its own.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel


class Emotions(PythonModel):
    """The model of a bundle."""

    def load_context(self, context: Any) -> None:
        import cv2  # noqa: PLC0415  (saving needs none of these)

        from emotion_detection.bundle import read_bundle  # noqa: PLC0415
        from serving.engine import Engine  # noqa: PLC0415

        cv2.setNumThreads(1)
        self.bundle = read_bundle(Path(context.artifacts["bundle"]))
        self.engine = Engine(self.bundle)

    def predict(self, context: Any, model_input: list[str], params: Any = None) -> list[dict[str, float]]:  # noqa: ARG002
        import numpy as np  # noqa: PLC0415

        crops = [self.engine.crops(base64.b64decode(text)) for text in model_input]
        rows = self.engine.predict(np.concatenate(crops)).tolist()
        return [dict(zip(self.bundle.info.labels, row, strict=True)) for row in rows]


if __name__ == "__main__":
    mlflow.pyfunc.save_model(sys.argv[2], python_model=__file__, artifacts={"bundle": sys.argv[1]})
else:
    mlflow.models.set_model(Emotions())
