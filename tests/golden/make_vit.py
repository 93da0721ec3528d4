"""A tiny random ViT as transformers writes it, and what torch computes with it: tests/golden/vit.npz.

    python -m tests.golden.make_vit        # needs torch 2.13 and transformers 5.23

Arrays: `config` and `processor` are JSON texts, `tensor/NAME` what model.safetensors holds, `images` uint8
(2, 56, 56, 3), `hidden_states` float32 (blocks + 1, 2, tokens, dim), `last_hidden_state` after the norm, `logits`;
`large_*` the same for one image of 72 x 72 with interpolated position embeddings.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("vit.npz")
LABELS = ("sadness", "Angry", "neutral", "surprised", "fear", "happiness", "disgust")
CONFIG = {
    "image_size": 56,
    "patch_size": 8,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "initializer_range": 0.1,  # large, so that every part of the network matters
    "id2label": dict(enumerate(LABELS)),
    "label2id": {label: index for index, label in enumerate(LABELS)},
}
PROCESSOR = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.23, 0.26, 0.28], "size": {"height": 56, "width": 56}}


def random_model(kind: str = "ViTForImageClassification", **changes: Any) -> Any:
    """A seeded model in evaluation mode, biases and norms random as well."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, kind)(transformers.ViTConfig(**{**CONFIG, **changes})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.2)
    return model


def answers(model: Any, images: np.ndarray, **options: Any) -> dict[str, np.ndarray]:
    """What torch computes from uint8 images (N, S, S, 3): hidden states, and logits if there is a classifier."""
    import torch
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    side = {"height": images.shape[1], "width": images.shape[2]}
    processor = ViTImageProcessorPil(**{**PROCESSOR, "size": side})
    pixels = torch.from_numpy(np.stack(processor(list(images)).pixel_values))
    with torch.no_grad():
        output = model(pixels, output_hidden_states=True, **options)
        encoder = getattr(model, "vit", model)
        last = encoder.layernorm(output.hidden_states[-1])
    found = {"hidden_states": torch.stack(output.hidden_states), "last_hidden_state": last}
    found |= {"logits": output.logits} if "logits" in output else {}
    return {name: value.numpy() for name, value in found.items()}


def random_images(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def main() -> None:
    from safetensors.numpy import load_file

    model = random_model()
    images, large = random_images(2, 56), random_images(1, 72)
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(directory)
        config = json.loads(Path(directory, "config.json").read_text())
        tensors = load_file(Path(directory, "model.safetensors"))
    arrays = {"config": np.array(json.dumps(config)), "processor": np.array(json.dumps(PROCESSOR)), "images": images}
    arrays |= {f"tensor/{name}": value for name, value in tensors.items()} | answers(model, images)
    expected = answers(model, large, interpolate_pos_encoding=True)
    arrays |= {"large_images": large} | {f"large_{name}": value for name, value in expected.items()}
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE.name}: {FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
