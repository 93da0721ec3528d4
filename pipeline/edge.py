"""Stage: models/NAME, reports/NAME and data/shards -> edge/NAME/, LiteRT files for phones and boards.

    python -m pipeline.edge NAME   # prints size, time and accuracy of each

NAME is an entry in `models` of params.yaml that `edge.litert` names.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the model was trained with

from rich.console import Console

from emotion_detection.edge import table, write_edge
from emotion_detection.errors import reported
from emotion_detection.params import load_params
from emotion_detection.pushing import measured


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.edge", description="Convert one model to LiteRT.")
    parser.add_argument("name", metavar="NAME", help="model that edge.litert of params.yaml names")
    Console().print(table(write_edge(parser.parse_args().name, load_params())))


if __name__ == "__main__":
    with reported(), measured("edge", *sys.argv[1:2]):
        main()
