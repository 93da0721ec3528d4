"""Labels that can be read, and the front that nobody beats."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from emotion_detection.comparison import drawings
from emotion_detection.comparison.table import ComparedModel, Comparison
from emotion_detection.figures import write_figures

NAMES = ["lenet", "vit", "mobilenet_v2", "efficientnet_b4", "efficientnet_b4_finetuned", "mini_xception", "vgg16"]
NAMES += ["resnet34", "resnet50", "vgg_small", "emotion_cnn", "vit_pretrained"]


def comparison(milliseconds: list[float], accuracy: list[float]) -> Comparison:
    models = {
        name: ComparedModel(
            architecture="lenet",
            parameters=10,
            flops=20,
            precision="fp32",
            bytes=30,
            milliseconds=time,
            milliseconds_batch=time,
            fp32_bytes=30,
            fp32_milliseconds=time,
            fp32_milliseconds_batch=time,
            accuracy=right,
            accuracy_low=right - 0.02,
            accuracy_high=right + 0.02,
            macro_f1=right,
            ece=0.1,
        )
        for name, time, right in zip(NAMES, milliseconds, accuracy, strict=False)
    }
    return Comparison(machine="none", images=100, models=models)


def drawn(milliseconds: list[float], accuracy: list[float]) -> tuple[Figure, list[drawings.Bbox]]:
    figure = drawings.tradeoff(comparison(milliseconds, accuracy))
    figure.draw_without_rendering()
    from matplotlib.text import Text

    axes = figure.axes[0]
    return figure, [Text.get_window_extent(text) for text in axes.texts]  # of the words, without the line to the point


CROWD = [(1 + 0.01 * number, 0.5 + 0.002 * (number % 3)) for number in range(len(NAMES))]
SPREAD = [(0.1 * 2**number, 0.3 + 0.05 * number) for number in range(len(NAMES))]


@pytest.mark.parametrize("points", [CROWD, SPREAD, [(1.0, 0.5)] * len(NAMES), [(1.0, 0.5)]])
def test_no_label_covers_another_or_leaves_the_picture(points: list[tuple[float, float]]) -> None:
    figure, boxes = drawn([x for x, _ in points], [y for _, y in points])
    assert len(boxes) == len(points)
    assert [(a, b) for a, b in combinations(boxes, 2) if a.overlaps(b)] == []
    frame = figure.axes[0].get_window_extent()
    assert all(frame.containsx(x) and frame.containsy(y) for box in boxes for x, y in box.corners())


def test_no_label_covers_a_point() -> None:
    figure, boxes = drawn(*(list(values) for values in zip(*CROWD, strict=True)))
    places = figure.axes[0].transData.transform(CROWD)
    assert not any(box.contains(x, y) for box in boxes for x, y in places)


def test_the_front_holds_what_no_other_beats_in_both() -> None:
    costs, values = np.array([5.0, 1.0, 2.0, 3.0, 3.0]), np.array([0.9, 0.5, 0.4, 0.7, 0.6])
    assert drawings.undominated(costs, values).tolist() == [1, 3, 0]


def test_pictures_are_the_same_bytes_when_made_again(tmp_path: Path) -> None:
    face = drawings.Face(np.zeros((8, 8, 1), np.uint8), "sad", {"lenet": ("sad", 0.6), "$vit$": ("angry", 0.3)})
    all_of_them = {
        "tradeoff": lambda: drawings.tradeoff(comparison([1.0, 2.0], [0.5, 0.6])),
        "agreement": lambda: drawings.agreement(NAMES[:2], np.eye(2), np.eye(2), np.array([5, 2, 1])),
        "faces": lambda: drawings.faces([face] * 5),
    }
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_figures(tmp_path / name, all_of_them)
    for name in all_of_them:
        first, second = (tmp_path / attempt / f"{name}.png" for attempt in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
        with Image.open(first) as image:
            assert np.asarray(image.convert("L")).std() > 1
