"""All models of params.yaml beside each other: `python -m pipeline.compare` writes comparison/.

index.html            one page that holds its pictures itself
comparison.md         the same for a pull request
figures/*.png         tradeoff, agreement, faces
comparison.csv        a row per model, behind `dvc plots`
agreement.csv         a row per pair of models
metrics.json          `table.Comparison`, behind `dvc metrics`

Figures of accuracy come from the reports; parameters, FLOPs, size and time from the bundles. What a model that is no
longer in params.yaml has left in bundles/ or reports/ is not looked at.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
from numpy.typing import NDArray

from emotion_detection.artifacts import (
    COMPARISON,
    DATASET,
    PREDICTIONS_SCHEMA,
    EdgeReport,
    Report,
    atomic_directory,
    bundle_dir,
    edge_report,
    read_record,
    read_table,
    report_dir,
    write_record,
)
from emotion_detection.bundle import ModelBundle, Precision, read_bundle
from emotion_detection.comparison import drawings
from emotion_detection.comparison.agreement import Pair, disagreement, matrix, pairs, wrong_models
from emotion_detection.comparison.flops import flops
from emotion_detection.comparison.table import (
    BATCHES,
    METRICS_FILE,
    ComparedModel,
    Comparison,
    columns,
    is_best,
    robustness_rows,
    rows,
    titles,
)
from emotion_detection.data.rows import images_of
from emotion_detection.errors import ArtifactError
from emotion_detection.figures import Drawing, write_figures
from emotion_detection.pages import embedded, render
from emotion_detection.params import Params
from emotion_detection.preprocess import prepare
from emotion_detection.scoring import milliseconds_in_turns
from emotion_detection.stats import Floats, softmax

FACES = 12


@dataclass(frozen=True)
class Entry:
    """What is known of one model."""

    name: str
    bundle: ModelBundle
    report: Report
    sha256: list[str]
    """Of the test images, in the order of all that follow."""
    labels: NDArray[np.int64]
    probabilities: Floats
    """(N, K), after temperature."""
    edge: EdgeReport | None = None
    """None where `edge.litert` does not name it."""

    @property
    def predicted(self) -> NDArray[np.intp]:
        """(N,)."""
        return np.asarray(self.probabilities.argmax(axis=1))


def compare(params: Params, directory: Path = COMPARISON) -> Comparison:
    """Compare the models and write the page.

    Raises:
        ArtifactError: a file of an earlier stage is missing or damaged, or models were judged on different images.
    """
    read = (read_entry(name, params.has_litert(name)) for name in params.models)
    entries = sorted(read, key=lambda entry: -entry.report.test.accuracy.value)
    check_same_images(entries)
    comparison = measure(entries)
    names, labels = [entry.name for entry in entries], entries[0].labels
    predicted = np.stack([entry.predicted for entry in entries])
    found = pairs(names, predicted, labels)
    figures: dict[str, Drawing] = {"tradeoff": partial(drawings.tradeoff, comparison)}
    if found:
        same, overlap = (matrix(names, found, figure) for figure in ("agreement", "error_overlap"))
        figures["agreement"] = partial(drawings.agreement, names, same, overlap, wrong_models(predicted, labels))
    if faces := differing_faces(entries, params.data.max_pixels):
        figures["faces"] = partial(drawings.faces, faces)
    with atomic_directory(directory) as temporary:
        (temporary / "figures").mkdir()
        write_figures(temporary / "figures", figures)
        write_tables(temporary, comparison, found)
        write_pages(temporary, comparison, found, list(figures))
    return comparison


def read_entry(name: str, litert: bool = False) -> Entry:
    """Bundle, report, test answers, and where it has them, LiteRT figures of one model.

    Raises:
        ArtifactError: one of its files is missing or damaged.
    """
    report = read_record(report_dir(name) / "metrics.json", Report)
    table = read_table(report_dir(name) / "predictions.parquet", PREDICTIONS_SCHEMA).to_pandas()
    test = table[table["split"] == "test"]
    return Entry(
        name=name,
        bundle=read_bundle(bundle_dir(name)),
        report=report,
        sha256=test["sha256"].tolist(),
        labels=test["label"].to_numpy(np.int64),
        probabilities=softmax(np.stack(test["logits"].to_list()) / report.temperature),
        edge=read_record(edge_report(name), EdgeReport) if litert else None,
    )


def check_same_images(entries: Sequence[Entry]) -> None:
    """
    Raises:
        ArtifactError: models were judged on different images.
    """
    first = entries[0]
    for entry in entries[1:]:
        if entry.sha256 != first.sha256 or entry.bundle.info.labels != first.bundle.info.labels:
            raise ArtifactError(
                f"{report_dir(entry.name)}: judged on other test images than {first.name}; run `dvc repro`"
            )


def measure(entries: Sequence[Entry]) -> Comparison:
    """Put the figures together, and take the time of all models in turns."""
    single, batch = (times_in_turns(entries, size) for size in BATCHES)
    models = {
        entry.name: ComparedModel(
            architecture=entry.bundle.info.architecture,
            parameters=entry.bundle.info.parameters,
            flops=flops(entry.bundle.model_path),
            precision=entry.bundle.precision(),
            bytes=entry.bundle.graph_path(entry.bundle.precision()).stat().st_size,
            milliseconds=single[entry.name, entry.bundle.precision()],
            milliseconds_batch=batch[entry.name, entry.bundle.precision()],
            fp32_bytes=entry.bundle.model_path.stat().st_size,
            fp32_milliseconds=single[entry.name, "fp32"],
            fp32_milliseconds_batch=batch[entry.name, "fp32"],
            accuracy=entry.report.test.accuracy.value,
            accuracy_low=entry.report.test.accuracy.low,
            accuracy_high=entry.report.test.accuracy.high,
            macro_f1=entry.report.test.macro_f1.value,
            ece=entry.report.test.ece,
            corrupted_accuracy=entry.report.robustness.mean.value if entry.report.robustness else None,
            by_corruption=entry.report.robustness.by_corruption() if entry.report.robustness else {},
            **litert_figures(entry.edge),
        )
        for entry in entries
    }
    return Comparison(machine=machine(), images=len(entries[0].labels), models=models)


def litert_figures(edge: EdgeReport | None) -> dict[str, float | None]:
    """Fields of `ComparedModel`."""
    if edge is None:
        return {}
    return {
        "litert_bytes": edge.float32.bytes,
        "litert_milliseconds": edge.float32.milliseconds,
        "litert_int8_bytes": edge.int8.bytes if edge.int8 else None,
        "litert_int8_milliseconds": edge.int8.milliseconds if edge.int8 else None,
    }


def times_in_turns(entries: Sequence[Entry], batch: int) -> dict[tuple[str, Precision], float]:
    """Milliseconds per face of every graph, by model and precision."""
    graphs = [(entry, each) for entry in entries for each in sorted({entry.bundle.precision(), "fp32"})]
    times = milliseconds_in_turns([(entry.bundle, each) for entry, each in graphs], batch)
    return {(entry.name, each): time / batch for (entry, each), time in zip(graphs, times, strict=True)}


def differing_faces(entries: Sequence[Entry], max_pixels: int) -> list[drawings.Face]:
    """The test images on whose class the models differ most, most first."""
    apart = disagreement(np.stack([entry.probabilities for entry in entries]))
    predicted = np.stack([entry.predicted for entry in entries])
    disputed = np.flatnonzero((predicted != predicted[0]).any(axis=0))
    chosen = disputed[np.argsort(-apart[disputed], kind="stable")][:FACES]
    info, sha256 = entries[0].bundle.info, entries[0].sha256
    images = images_of(DATASET, {sha256[place] for place in chosen})

    def face(place: int) -> drawings.Face:
        image = prepare(images[sha256[place]], info.image_size, info.channels, max_pixels)
        answers = {entry.name: _answer(entry, place) for entry in entries}
        return drawings.Face(image, info.labels[entries[0].labels[place]], answers)

    return [face(int(place)) for place in chosen]


def write_tables(directory: Path, comparison: Comparison, found: Sequence[Pair]) -> None:
    """metrics.json, comparison.csv, agreement.csv."""
    write_record(directory / METRICS_FILE, comparison)
    models = pd.DataFrame(
        [{"model": name, **model.model_dump(exclude={"by_corruption"})} for name, model in comparison.models.items()]
    )
    agreement = pd.DataFrame([asdict(pair) for pair in found], columns=list(Pair.__dataclass_fields__))
    for name, frame in (("comparison", models), ("agreement", agreement)):
        frame.to_csv(directory / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")


def write_pages(directory: Path, comparison: Comparison, found: Sequence[Pair], figures: Sequence[str]) -> None:
    """index.html and comparison.md; the figures must stand in `directory` already."""
    content = {
        "title": "Comparison of the models",
        "comparison": comparison,
        "titles": titles(comparison),
        "rows": rows(comparison),
        "best": {name: is_best(comparison, name) for name in comparison.models},
        "columns": columns(comparison),
        "robustness": robustness_rows(comparison),
        "pairs": found,
    }
    pictures = {name: embedded(directory / f"figures/{name}.png") for name in figures}
    _write(directory / "index.html", "comparison.html.j2", content | {"pictures": pictures})
    _write(directory / "comparison.md", "comparison.md.j2", content | {"pictures": list(figures)})


def machine() -> str:
    """Processor and ONNX Runtime of this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, ONNX Runtime {ort.__version__}"


def _answer(entry: Entry, place: int) -> tuple[str, float]:
    best = int(entry.predicted[place])
    return entry.bundle.info.labels[best], float(entry.probabilities[place, best])


def _write(path: Path, template: str, content: Mapping[str, object]) -> None:
    path.write_text(render(template, **content), encoding="utf-8")
