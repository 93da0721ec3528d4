"""Stage: data/shards -> models/NAME/ with model.keras, history.json and run.json.

    python -m pipeline.train NAME

NAME is an entry in `models` of params.yaml. Prints a line for each epoch; killed, the same command resumes.
"""

from __future__ import annotations

import argparse
import sys

from emotion_detection.artifacts import SHARDS, model_dir
from emotion_detection.engine import chosen
from emotion_detection.errors import reported
from emotion_detection.params import load_params
from emotion_detection.pushing import measured
from emotion_detection.training import train


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.train", description="Train one model.")
    parser.add_argument("name", metavar="NAME", help="entry in `models` of params.yaml")
    name = parser.parse_args().name
    params = load_params()
    history = chosen(train)(name, params, SHARDS, model_dir(name))
    best = {key: values[history.best_epoch] for key, values in history.metrics.items()}
    epoch = f"epoch {history.best_epoch + 1}" if "loss" in history.metrics else "not trained"
    print(f"{model_dir(name)}: {epoch}, val_accuracy {best['val_accuracy']:.1%}")


if __name__ == "__main__":
    with reported(), measured("train", *sys.argv[1:2]):
        main()
