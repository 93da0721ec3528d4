"""Stage 1: `data.source` -> data/dataset.parquet.

python -m pipeline.ingest
"""

from __future__ import annotations

from rich import print

from emotion_detection.artifacts import DATASET
from emotion_detection.data.ingest import ingest, summary
from emotion_detection.data.sources import open_source
from emotion_detection.errors import reported
from emotion_detection.params import load_params
from emotion_detection.pushing import measured


def main() -> None:
    params = load_params()
    source = open_source(params.data, params.seed)
    print(summary(ingest(source, DATASET, params.data.split, params.seed, params.data.max_pixels)))


if __name__ == "__main__":
    with reported(), measured("ingest"):
        main()
