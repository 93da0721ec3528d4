"""Stage: models/NAME, reports/NAME and data/shards -> bundles/NAME/, the ModelBundle that is served.

    python -m pipeline.export NAME   # prints its size and its largest difference to Keras

NAME is an entry in `models` of params.yaml.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the model was trained with

from rich.console import Console

from emotion_detection.errors import reported
from emotion_detection.export import export_bundle, table
from emotion_detection.params import load_params
from emotion_detection.pushing import measured


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.export", description="Export one model.")
    parser.add_argument("name", metavar="NAME", help="entry in `models` of params.yaml")
    Console().print(table(export_bundle(parser.parse_args().name, load_params())))


if __name__ == "__main__":
    with reported(), measured("export", *sys.argv[1:2]):
        main()
