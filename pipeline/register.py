"""Register one exported model in MLflow: `python -m pipeline.register NAME` writes registrations/NAME.json.

Finds the run of the training, or makes it from the files, and makes the bundle a version; repeating it changes
nothing. The registry is `MLFLOW_TRACKING_URI`, or mlruns/ here.
"""

from __future__ import annotations

import argparse

from emotion_detection.artifacts import Registration, registration_file, write_record
from emotion_detection.errors import reported
from emotion_detection.params import load_params
from emotion_detection.pushing import measured
from emotion_detection.registration import register_model


def main(name: str) -> Registration:
    registration = register_model(load_params(), name)
    write_record(registration_file(name), registration)
    return registration


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m pipeline.register", description="Register one exported model.")
    parser.add_argument("name", metavar="NAME", help="entry in `models` of params.yaml")
    name = parser.parse_args().name
    with reported(), measured("register", name):
        done = main(name)
        print(f"{done.model}: {done.name} version {done.version}, run {done.run_id}, at {done.tracking_uri}")
