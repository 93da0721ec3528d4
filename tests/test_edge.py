"""Keras -> LiteRT, asked through the interpreter: answers, int8 kept or rejected, the files, and where figures show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emotion_detection.artifacts import SHARDS, EdgeReport, edge_dir, edge_report, read_record
from emotion_detection.backend import keras
from emotion_detection.comparison.compare import compare
from emotion_detection.comparison.table import COLUMNS, LITERT_COLUMNS, TITLES
from emotion_detection.comparison.table import titles as table_titles
from emotion_detection.edge import FLOAT_FILE, INT8_FILE, LABELS_FILE, Exam, table, write_edge, write_graphs
from emotion_detection.errors import ExportError, ParamsError
from emotion_detection.inference import asked
from emotion_detection.litert import Converter, LiteRTModel
from emotion_detection.params import Params, load_params
from emotion_detection.stats import softmax
from tests.pipeline.test_compare_stage import write_answers
from tests.project import ACCURACY, LABELS
from tests.test_export import pixels, trained

T = 1.7


def right_answers(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return softmax(np.asarray(model(images, training=False)) / T)


def params_with(*lines: str) -> Params:
    path = Path("params.yaml")
    path.write_text("\n".join([path.read_text(), *lines]))
    return load_params()


def exam(model: keras.Model, images: np.ndarray) -> Exam:
    """On which Keras is always right."""
    from emotion_detection.data.shards import Arrays

    right = right_answers(model, images)
    val = Arrays(images, right.argmax(axis=1).astype(np.int32), [""] * len(images))
    return Exam("small", images, right, val, right, ece_bins=5)


@pytest.mark.parametrize("architecture", ["lenet", "mini_xception", "se_resnet", "vit"])
def test_architectures_answer_as_keras_does(architecture: str) -> None:
    model, images = asked(trained(architecture), flip_average=architecture == "vit"), pixels(5)
    with Converter(model, T) as converter:
        graph = LiteRTModel(converter.float32())
    expected = right_answers(model, images)
    assert expected.std(axis=0).max() > 0.02
    np.testing.assert_allclose(graph(images), expected, atol=1e-5)


def test_int8_is_small_near_and_the_same_each_time() -> None:
    model, images = trained("lenet"), pixels(40)
    with Converter(model, T) as converter:
        float32, static, again, dynamic = (
            converter.float32(), converter.int8(images), converter.int8(images), converter.int8(None)
        )  # fmt: skip
    assert static == again
    right = right_answers(model, images)
    for content in (static, dynamic):
        assert len(content) < 0.4 * len(float32)
        assert 1e-4 < np.abs(LiteRTModel(content)(images) - right).mean() < 0.1
    kinds = {detail["dtype"] for detail in LiteRTModel(static).interpreter.get_tensor_details()}
    assert np.int8 in kinds


@pytest.mark.usefixtures("project")
def test_the_stage_writes_files_figures_and_columns_of_the_page() -> None:
    params = params_with("edge: {litert: [good]}", "export: {int8: {tolerance: 1.0}}")
    written = write_edge("good", params)
    assert {file.name for file in edge_dir("good").iterdir()} == {FLOAT_FILE, INT8_FILE, LABELS_FILE}
    assert (edge_dir("good") / LABELS_FILE).read_text().split() == list(LABELS)
    assert read_record(edge_report("good"), EdgeReport) == written
    assert written.int8
    assert written.int8.method == "static"
    assert (edge_dir("good") / INT8_FILE).stat().st_size == written.int8.bytes < written.float32.bytes
    assert written.float32.difference < 1e-5 < written.int8.difference
    assert written.float32.accuracy == written.keras_accuracy
    assert min(written.float32.milliseconds, written.int8.milliseconds) > 0
    assert table(written).row_count == 2
    for model in ACCURACY:
        write_answers(model)
    titles = [column.title for column in LITERT_COLUMNS]
    found = compare(params)
    assert (found.models["good"].litert_bytes, found.models["fair"].litert_bytes) == (written.float32.bytes, None)
    page, markdown = (Path("comparison", name).read_text() for name in ("index.html", "comparison.md"))
    assert all(title in text for title in titles for text in (page, markdown))
    size = f"{written.float32.bytes / 1e6:.2f} (int8 {written.int8.bytes / 1e6:.2f})"
    rows = {row[1].strip(): row for line in markdown.splitlines() if len(row := line.split("|")) == len(COLUMNS) + 6}
    assert size in rows["good"][-3]
    assert [cell.strip() for cell in rows["fair"][-3:-1]] == ["", ""]
    without = found.model_copy(update={"models": {"fair": found.models["fair"]}})
    assert table_titles(without) == TITLES


@pytest.mark.usefixtures("project")
def test_an_answer_that_differs_too_much_is_an_error_and_leaves_nothing() -> None:
    params = params_with("edge: {litert: [good]}", "export: {max_difference: 1e-12}")
    with pytest.raises(ExportError, match=r"good: model\.tflite differs .*max_difference 1e-12.* edge\.litert"):
        write_edge("good", params)
    assert not edge_dir("good").exists()
    assert not edge_report("good").exists()


@pytest.mark.usefixtures("project")
def test_what_static_ranges_lose_dynamic_ones_may_not(tmp_path: Path) -> None:
    """Bright faces, while those of the shards, for calibration, are dark: whatever is bright is cut off."""
    model, images = trained("lenet", 16), pixels(60, 16)
    params = params_with("export: {int8: {tolerance: 0.1}}")
    with Converter(model, T) as converter:
        real = converter.int8
        converter.int8 = lambda faces: real(None if faces is None else faces // 64)  # type: ignore[method-assign]
        found = write_graphs(converter, exam(model, images), tmp_path, params)
        assert SHARDS.exists()
        assert list(found.rejected) == ["static"]
        assert found.int8
        assert (found.int8.method, found.int8.accuracy >= 0.9) == ("dynamic", True)
        assert (tmp_path / INT8_FILE).stat().st_size == found.int8.bytes
        assert "rejected: static: accuracy" in str(table(found).caption)


def dead_gate() -> keras.Model:
    """A map that is zero whatever the face: its range is so small that XNNPACK refuses to compute with it."""
    image = keras.Input((16, 16, 1), dtype="uint8")
    maps = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(image))
    dead = keras.layers.Dense(1, activation="relu", bias_initializer=keras.initializers.Constant(-100.0))(maps)
    gate = keras.layers.Conv2D(4, 1, activation="sigmoid")(dead)
    pooled = keras.layers.GlobalAveragePooling2D()(maps * gate)
    return keras.Model(image, keras.layers.Dense(3)(pooled), name="dead_gate")


def test_a_graph_that_cannot_be_run_is_rejected() -> None:
    with Converter(dead_gate(), T) as converter:
        content = converter.int8(pixels(8, 16))
    with pytest.raises(ExportError, match="interpreter cannot load it"):
        LiteRTModel(content)


@pytest.mark.usefixtures("project")
def test_bad_input_gets_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"edge\.litert: found \[\]; add good, then run `dvc repro edge@good`"):
        write_edge("good", load_params())
    with pytest.raises(ParamsError, match=r"edge\.litert: no such model: gone; params\.yaml has good, fair, poor"):
        params_with("edge: {litert: [gone]}")
    (tmp_path / "broken.tflite").write_bytes(b"no flatbuffer")
    with pytest.raises(ExportError, match=r"broken\.tflite: the LiteRT interpreter cannot load it"):
        LiteRTModel(tmp_path / "broken.tflite")
    with pytest.raises(ExportError, match=r"missing\.tflite: .* cannot load it: .*No such file"):
        LiteRTModel(tmp_path / "missing.tflite")
    image = keras.Input((4, 4, 1), dtype="uint8")
    flat = keras.layers.Flatten()(keras.ops.cast(image, "float32"))
    model = keras.Model(image, keras.ops.erfinv(flat), name="odd")
    with Converter(model, T) as converter, pytest.raises(ExportError, match="model odd: LiteRT cannot convert it"):
        converter.float32()
