"""Hidden states of a random ViT in torch and in Keras: `python -m benchmarks.vit_parity`; needs torch and transformers.

Prints the largest absolute difference after the embedding, after every block and after the last norm, for the tiny
model of tests/golden/make_vit.py and for one of the size of ViT-B/16 (85.8M weights, 224 x 224), both kinds of
checkpoint.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from emotion_detection.backend import keras
from emotion_detection.models import InputSpec, build_model
from tests.golden.make_vit import PROCESSOR, answers, random_images, random_model

BASE = {
    "image_size": 224,
    "patch_size": 16,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "initializer_range": 0.02,
}


def differences(kind: str, size: int, changes: dict[str, Any]) -> tuple[float, float, int]:
    """Largest difference, largest value, and the number of weights of the encoder."""
    reference, images = random_model(kind, **changes), random_images(2, size)
    with tempfile.TemporaryDirectory() as directory:
        reference.save_pretrained(directory)
        Path(directory, "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
        model = build_model("vit", InputSpec(size, 3, 7), {"weights": directory})
    expected = answers(reference, images)
    blocks = len(expected["hidden_states"]) - 1
    layers = [model.get_layer("embedding"), *(model.get_layer(f"block{block}_add2") for block in range(blocks))]
    states = keras.Model(model.input, [layer.output for layer in layers])(images, training=False)
    pairs = [*zip(states, expected["hidden_states"], strict=True)]
    pairs.append((model.get_layer("norm")(states[-1]), expected["last_hidden_state"]))
    largest = max(float(np.abs(np.asarray(found) - value).max()) for found, value in pairs)
    return largest, float(np.abs(expected["hidden_states"]).max()), model.count_params() - 7 * (_dim(model) + 1)


def _dim(model: keras.Model) -> int:
    return int(model.get_layer("norm").output.shape[-1])


def main() -> None:
    for name, size, changes in (("tiny", 56, {}), ("ViT-B/16", 224, BASE)):
        for kind in ("ViTModel", "ViTForImageClassification"):
            difference, largest, weights = differences(kind, size, changes)
            print(f"{name:9} {kind:26} {weights:>11,} weights: {difference:.1e} of values up to {largest:.1f}")


if __name__ == "__main__":
    main()
