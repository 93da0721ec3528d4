"""Stage: models/NAME and data/shards -> reports/NAME/ with metrics, predictions, figures and plot data.

    python -m pipeline.evaluate NAME   # prints the figures of val and test

NAME is an entry in `models` of params.yaml.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the model was trained with

from rich.console import Console

from emotion_detection.errors import reported
from emotion_detection.evaluation import evaluate, table
from emotion_detection.params import load_params
from emotion_detection.pushing import measured


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.evaluate", description="Judge one model.")
    parser.add_argument("name", metavar="NAME", help="entry in `models` of params.yaml")
    Console().print(table(evaluate(parser.parse_args().name, load_params())))


if __name__ == "__main__":
    with reported(), measured("evaluate", *sys.argv[1:2]):
        main()
