"""ONNX and LiteRT beside each other, in float32 and int8: size, time of a face, accuracy, and how often they agree.

    python -m benchmarks.edge emotion_cnn vit           # models that edge.litert names, after `dvc repro`
    python -m benchmarks.edge emotion_cnn --json

Time is that of one face (batch 1) on one thread, ONNX Runtime against TensorFlow's LiteRT interpreter with XNNPACK, all
graphs of a model in turns: the median of the rounds. Accuracy is on the validation split, agreement that of the most
probable class with ONNX in fp32. What the bundle or edge/NAME/ does not have is left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from emotion_detection.artifacts import SHARDS, bundle_dir, edge_dir
from emotion_detection.bundle import ModelBundle, Precision, read_bundle
from emotion_detection.data.shards import Arrays, load_arrays
from emotion_detection.edge import FLOAT_FILE, INT8_FILE
from emotion_detection.errors import ArtifactError, reported
from emotion_detection.litert import LiteRTModel
from emotion_detection.quantisation import Images, Probabilities, answers, open_session
from emotion_detection.timing import medians_in_turns

Ask = Callable[[Images], Probabilities]
SECONDS = 60.0


@dataclass(frozen=True)
class Row:
    """One graph of one model."""

    model: str
    graph: str
    megabytes: float
    milliseconds: float
    accuracy: float
    agreement: float


def graphs(name: str) -> dict[str, tuple[Path, Ask]]:
    """Every graph of a model, loaded for one thread, ONNX in fp32 first.

    Raises:
        ArtifactError: the bundle or edge/NAME/ is missing.
    """
    bundle = read_bundle(bundle_dir(name))
    precisions: list[Precision] = ["fp32", "int8"] if bundle.info.has_int8 else ["fp32"]
    found = {f"ONNX {each}": onnx(bundle, each) for each in precisions}
    paths = {"LiteRT float32": edge_dir(name) / FLOAT_FILE, "LiteRT int8": edge_dir(name) / INT8_FILE}
    if not paths["LiteRT float32"].exists():
        raise ArtifactError(f"{edge_dir(name)}: missing; run `make run edge.litert=[{name}]`, then this again")
    return found | {title: (path, LiteRTModel(path)) for title, path in paths.items() if path.exists()}


def onnx(bundle: ModelBundle, precision: Precision) -> tuple[Path, Ask]:
    """A graph of a bundle, loaded for one thread."""
    path = bundle.graph_path(precision)
    session = open_session(path, threads=1)
    return path, lambda images: answers(session, images)


def measure(name: str, val: Arrays, rounds: int) -> list[Row]:
    """The rows of one model."""
    found = graphs(name)
    times = medians_in_turns([lambda ask=ask: ask(val.images[:1]) for _, ask in found.values()], rounds, SECONDS)
    said = [ask(val.images).argmax(axis=1) for _, ask in found.values()]
    return [
        Row(
            model=name,
            graph=title,
            megabytes=path.stat().st_size / 1e6,
            milliseconds=1000 * time,
            accuracy=float((classes == val.labels).mean()),
            agreement=float(np.mean(classes == said[0])),
        )
        for (title, (path, _)), time, classes in zip(found.items(), times, said, strict=True)
    ]


def table(rows: list[Row], images: int) -> Table:
    """The rows for a terminal."""
    result = Table("model", "graph", title=f"One face, one thread; accuracy on {images:,} validation images")
    for title in ("MB", "ms", "accuracy", "agrees"):
        result.add_column(title, justify="right")
    for row in rows:
        figures = (f"{row.megabytes:.2f}", f"{row.milliseconds:.3f}", f"{row.accuracy:.4f}", f"{row.agreement:.2%}")
        result.add_row(row.model, row.graph, *figures)
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME", help="entries in edge.litert of params.yaml")
    parser.add_argument("--rounds", type=int, default=300, metavar="N")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    val = load_arrays(SHARDS, "val")
    rows = [row for name in options.models for row in measure(name, val, options.rounds)]
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        Console().print(table(rows, len(val.labels)))


if __name__ == "__main__":
    with reported():
        main()
