"""What int8 costs and gives, beside fp32: size, time, throughput, and accuracy where there are labelled faces.

    python -m benchmarks.quantisation                                  # untrained models, calibrated on drawn faces
    python -m benchmarks.quantisation --models se_resnet lenet
    python -m benchmarks.quantisation --bundle bundles/se_resnet --shards data/shards

Speed does not depend on what a model has learned; accuracy does, and is told for --bundle with --shards alone: on the
validation split, which says also how often the two precisions name different emotions. All graphs take turns in every
round, and each figure is the median of its rounds; ratios are of the same rounds. int8 is shown whether or not export
would keep it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from emotion_detection.bundle import INPUT_NAME, INT8_FILE, MODEL_FILE, OUTPUT_NAME, read_bundle
from emotion_detection.params import Int8Params
from emotion_detection.quantisation import Images, answers, open_session, write_int8
from emotion_detection.timing import medians_in_turns

MODELS = ("emotion_cnn", "se_resnet", "lenet", "mini_xception", "vgg_small", "vit")
REFERENCE = "emotion_cnn"
BATCHES, THREADS = (1, 8, 32, 128), (1, 2)
Graphs = Mapping[tuple[str, str], Path]
"""By model and precision."""


def untrained(models: Sequence[str], directory: Path) -> tuple[Graphs, Images]:
    """Graphs of both precisions, and drawn faces."""
    from benchmarks.serving.bundles import export_untrained  # noqa: PLC0415  (takes TensorFlow)
    from emotion_detection.export import golden_faces  # noqa: PLC0415

    faces = golden_faces(48, 1).repeat(10, axis=0)
    for name in models:
        export_untrained(name, directory / name)
    return quantised({name: directory / name / MODEL_FILE for name in models}, faces, directory), faces


def quantised(sources: Mapping[str, Path], faces: Images, directory: Path) -> Graphs:
    """Each graph, and the same in int8 with the default parameters."""
    graphs: dict[tuple[str, str], Path] = {}
    for name, source in sources.items():
        target = directory / f"{name}.{INT8_FILE}"
        write_int8(source, target, faces[: Int8Params().calibration_images], Int8Params())
        graphs |= {(name, "fp32"): source, (name, "int8"): target}
    return graphs


def seconds(graphs: Graphs, faces: Images, batch: int, threads: int, rounds: int) -> dict[tuple[str, str], float]:
    """Median time of a batch."""
    images = np.resize(faces, (batch, *faces.shape[1:]))
    sessions = [open_session(path, threads) for path in graphs.values()]
    works = [partial(session.run, [OUTPUT_NAME], {INPUT_NAME: images}) for session in sessions]
    return dict(zip(graphs, medians_in_turns(works, rounds, seconds=60), strict=True))


def table(graphs: Graphs, faces: Images, rounds: int) -> Table:
    """Size, time of a face, and throughput."""
    cells = {
        (batch, threads): seconds(graphs, faces, batch, threads, rounds) for threads in THREADS for batch in BATCHES
    }
    alone, names = cells[1, 1], list(dict.fromkeys(name for name, _ in graphs))
    result = Table(title=f"fp32 | int8 (ratio); medians of {rounds} rounds in turns", show_lines=True)
    for title in ("model", "MB", "ms, batch 1, one thread", f"against {REFERENCE}"):
        result.add_column(title, justify="left" if title == "model" else "right")
    for batch, threads in cells:
        result.add_column(f"faces/s, batch {batch}, {threads} thread{'s' * (threads > 1)}", justify="right")
    for name in names:
        size, small = (graphs[name, each].stat().st_size / 1e6 for each in ("fp32", "int8"))
        slow, fast = 1000 * alone[name, "fp32"], 1000 * alone[name, "int8"]
        row = [name, f"{size:.2f} | {small:.2f} ({size / small:.1f})", f"{slow:.3f} | {fast:.3f} ({slow / fast:.2f})"]
        row.append(_against_reference(alone, name))
        for (batch, _), times in cells.items():
            one, other = (batch / times[name, each] for each in ("fp32", "int8"))
            row.append(f"{one:,.0f} | {other:,.0f} ({other / one:.2f})")
        result.add_row(*row)
    return result


def _against_reference(alone: Mapping[tuple[str, str], float], name: str) -> str:
    if (REFERENCE, "fp32") not in alone:
        return ""
    return " | ".join(f"{alone[name, each] / alone[REFERENCE, each]:.2f}" for each in ("fp32", "int8"))


def accuracy(graphs: Graphs, shards: Path) -> Table:
    """On the validation split."""
    from emotion_detection.data.shards import load_arrays  # noqa: PLC0415  (takes TensorFlow)

    val = load_arrays(shards, "val")
    result = Table("model", "fp32", "int8", "other emotion", title=f"Accuracy on {len(val.labels):,} validation images")
    for name in dict.fromkeys(name for name, _ in graphs):
        said = [answers(open_session(graphs[name, each]), val.images).argmax(axis=1) for each in ("fp32", "int8")]
        right = [f"{(each == val.labels).mean():.4f}" for each in said]
        result.add_row(name, *right, f"{(said[0] != said[1]).mean():.2%}")
    return result


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME", help="architectures, untrained")
    parser.add_argument(
        "--bundle", type=Path, action="append", metavar="DIR", help="real ones instead; may be repeated"
    )
    parser.add_argument(
        "--shards", type=Path, metavar="DIR", help="labelled faces: calibration and accuracy of --bundle"
    )
    parser.add_argument("--rounds", type=int, default=30, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.bundle:
            from emotion_detection.data.shards import load_arrays  # noqa: PLC0415  (takes TensorFlow)

            if options.shards is None:
                parser.error("--bundle needs --shards, the faces to calibrate it with")
            faces = load_arrays(options.shards, "train").images
            sources = {path.resolve().name: read_bundle(path).model_path for path in options.bundle}
            graphs = quantised(sources, faces, Path(name))
        else:
            graphs, faces = untrained(options.models, Path(name))
        Console(width=220).print(table(graphs, faces, options.rounds))
        if options.bundle:
            Console().print(accuracy(graphs, options.shards))


if __name__ == "__main__":
    main()
