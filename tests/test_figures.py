"""Every figure is a PNG that shows something, with equal bytes when drawn again."""

import numpy as np
import pytest
from PIL import Image

from emotion_detection import breakdowns, figures
from emotion_detection.artifacts import CorruptionAccuracy, History, Interval, Robustness, SliceAccuracy
from emotion_detection.corruptions import CORRUPTIONS
from emotion_detection.stats import reliability, softmax

LABELS = ("angry", "happy $x_1$", "sad")
HISTORY = History(
    metrics={name: [1.0, 0.5] for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")},
    best_epoch=1,
    resumed_at=[],
    parameters=10,
)


def history(learning_rate, stages):
    metrics = HISTORY.metrics | {"learning_rate": learning_rate}
    return HISTORY.model_copy(update={"metrics": metrics, "stages": stages})


def test_training_shows_four_curves_and_marks_kept_epoch_and_stages():
    figure = figures.training(history(learning_rate=[1e-3, 1e-5], stages=[1]))
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "Accuracy", "Learning rate", "Seconds per epoch"]
    for axes in figure.axes:
        marks = [line.get_xdata()[0] for line in axes.get_lines() if len(set(line.get_xdata())) == 1]
        assert marks == [2, 1.5]
    rate = figure.axes[2]
    heights = rate.transAxes.inverted().transform(rate.transData.transform([(1, 1e-3), (2, 1e-5), (2, 0)]))[:, 1]
    assert heights[1] > heights[2] + 0.1  # a hundredth can still be read


def interval(value: float) -> Interval:
    return Interval(value=value, low=max(0.0, value - 0.1), high=min(1.0, value + 0.1))


SLICES = [
    SliceAccuracy(slicing=slicing, title=title, images=1234, accuracy=interval(value))
    for slicing, title, value in [*(("class", label, 1.0) for label in LABELS), ("brightness", "≤ 95", 0.4)]
]
ROBUSTNESS = Robustness(
    images=200,
    clean=interval(0.9),
    mean=interval(0.5),
    rows=tuple(
        CorruptionAccuracy(corruption=each.name, strength=strength, accuracy=interval(0.1 * place))
        for each in CORRUPTIONS
        for place, strength in enumerate(each.strengths)
    ),
)


def test_slices_stand_by_name_and_number_around_the_whole():
    (axes,) = breakdowns.slices(SLICES, 0.8).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        *(f"{label}  (1,234)" for label in LABELS),
        "≤ 95  (1,234)",
    ]
    points = {
        y: x for line in axes.get_lines() for x, y in zip(*line.get_data(), strict=True) if line.get_marker() == "o"
    }
    assert list(points.values()) == [1.0, 1.0, 1.0, 0.4]
    assert list(points)[3] - list(points)[2] > 1  # a gap between two ways of cutting


def test_corrupted_faces_stand_beside_their_accuracy():
    numbers, pictures = breakdowns.robustness(ROBUSTNESS, np.full((16, 16, 1), 99, np.uint8), seed=0).axes
    assert [label.get_text() for label in numbers.get_yticklabels()] == [each.name for each in CORRUPTIONS]
    assert [text.get_text() for text in numbers.texts][:3] == ["0.00\n0.4", "0.10\n0.6", "0.20\n0.8"]
    shown = pictures.get_images()[0].get_array()
    assert shown.shape == (16 * len(CORRUPTIONS), 16 * 3)
    assert shown[0, [0, 16, 32]].tolist() == [59, 40, 20]  # darker by 0.4, 0.6, 0.8


def drawings() -> dict[str, figures.Drawing]:
    random = np.random.default_rng(0)
    counts = random.integers(0, 30, size=(3, 3))
    shares = random.random((3, 3))
    table = reliability(softmax(random.normal(size=(50, 3)) * 2), random.integers(3, size=50), 10)
    curves = [figures.Curve(label, np.linspace(0, 1, 5), np.linspace(0, 1, 5) ** 0.5, 0.7) for label in LABELS]
    faces = random.integers(256, size=(7, 16, 16, 3), dtype=np.uint8)
    items = [figures.Mistake(face, "sad", "angry", 0.93) for face in faces]
    return {
        "confusion": lambda: figures.confusion(counts, LABELS),
        "reliability": lambda: figures.reliability(table, table, 1.3),
        "roc": lambda: figures.roc(curves),
        "precision_recall": lambda: figures.precision_recall(curves),
        "classes": lambda: figures.classes(*shares, counts[0], LABELS),
        "mistakes": lambda: figures.mistakes(items),
        "no_mistakes": lambda: figures.mistakes([]),
        "grey_mistake": lambda: figures.mistakes([figures.Mistake(faces[0, ..., :1], "sad", "angry", 0.93)]),
        "slices": lambda: breakdowns.slices(SLICES, 0.8),
        "robustness": lambda: breakdowns.robustness(ROBUSTNESS, faces[0], seed=0),
        "training": lambda: figures.training(HISTORY),
        "finetuning": lambda: figures.training(HISTORY.model_copy(update={"stages": [1]})),
        "finetuning_at_rate_zero": lambda: figures.training(history(learning_rate=[0.0, 0.0], stages=[1])),
    }


def read(path):
    with Image.open(path) as image:
        image.load()
        return image


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("figures")
    figures.write_figures(directory, drawings())
    return directory


@pytest.mark.parametrize("name", drawings())
def test_figure_is_a_readable_png_without_traces_of_its_making(written, name):
    image = read(written / f"{name}.png")
    assert image.format == "PNG"
    assert min(image.size) >= 200
    assert np.asarray(image.convert("L")).std() > 1
    assert not {"Software", "Creation Time", "date"} & set(image.info)


def test_figures_are_equal_byte_for_byte_whatever_the_users_settings(written, tmp_path):
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 10}):
        figures.write_figures(tmp_path, drawings())
    for name in drawings():
        assert (tmp_path / f"{name}.png").read_bytes() == (written / f"{name}.png").read_bytes(), name


def test_mistakes_grow_by_rows(tmp_path):
    face = np.zeros((8, 8, 1), np.uint8)
    items = [figures.Mistake(face, "sad", "angry", 0.9)]
    figures.write_figures(
        tmp_path, {str(count): lambda count=count: figures.mistakes(items * count) for count in (6, 12)}
    )
    assert read(tmp_path / "12.png").height > 1.7 * read(tmp_path / "6.png").height


def test_twenty_classes_stay_legible(tmp_path):
    counts, labels = np.eye(20, dtype=np.int64), [f"class {number}" for number in range(20)]
    curves = [figures.Curve(label, np.array([0, 1]), np.array([0, 1]), 0.5) for label in labels]
    figures.write_figures(tmp_path, {"c": lambda: figures.confusion(counts, labels), "r": lambda: figures.roc(curves)})
    assert read(tmp_path / "c.png").width > 2000
