"""Parameters of each standard architecture here, against Keras's applications and the literature.

    python -m benchmarks.architectures

Backbones are counted without their head (ours has other classes than ImageNet), all weights, learnt or not; ResNet34
as PyTorch counts it, learnt ones alone. Models are built at 224 x 224 x 3 with random weights, nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from emotion_detection.backend import keras
from emotion_detection.models import InputSpec, backbone_layers, build_model

IMAGENET = InputSpec(image_size=224, channels=3, classes=1000)
FER = InputSpec(image_size=64, channels=1, classes=7)
VIT_B16 = {"patch_size": 16, "dim": 768, "depth": 12, "heads": 12, "mlp_ratio": 4}


@dataclass(frozen=True)
class Row:
    """One architecture; `part` says what is counted."""

    architecture: str
    part: str
    parameters: int
    expected: int
    source: str


def rows() -> Iterator[Row]:
    """Build each model and count."""
    for architecture, hyperparameters, expected, source in (
        ("vgg16", {"weights": "none"}, 14_714_688, "keras.applications.VGG16"),
        ("resnet50", {"weights": "none"}, 23_587_712, "keras.applications.ResNet50"),
        ("mobilenet_v2", {"weights": "none"}, 2_257_984, "keras.applications.MobileNetV2"),
        ("efficientnet_b4", {"weights": "none"}, 17_673_823, "keras.applications.EfficientNetB4"),
        ("vit", VIT_B16, 85_798_656, "ViT-B/16 of Dosovitskiy et al. 2020 (86M)"),
    ):
        model = build_model(architecture, IMAGENET, hyperparameters)
        yield Row(architecture, "backbone", total(backbone_layers(model)), expected, source)
    resnet = build_model("resnet34", IMAGENET, {"stem": "imagenet"})
    for part, layers, expected in (
        ("backbone, learnt", backbone_layers(resnet), 21_284_672),
        ("1000 classes, learnt", resnet.layers, 21_797_672),
    ):
        yield Row("resnet34", part, total(layers, lambda layer: layer.trainable_weights), expected, "torchvision")
    mini = build_model("mini_xception", FER, {})
    yield Row("mini_xception", "7 classes", mini.count_params(), 58_423, "published weights, Arriaga et al. 2017")


def total(layers: list[Any], weights: Callable[[Any], list[Any]] = lambda layer: layer.weights) -> int:
    """Numbers in the weights of some layers."""
    return sum(keras.ops.size(weight) for layer in layers for weight in weights(layer))


def main() -> None:
    table = Table("architecture", "counted", "here", "expected", "", "source")
    for row in rows():
        verdict = "equal" if row.parameters == row.expected else "DIFFERS"
        table.add_row(row.architecture, row.part, f"{row.parameters:,}", f"{row.expected:,}", verdict, row.source)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
