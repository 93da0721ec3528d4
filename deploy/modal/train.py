"""Train one model on a GPU at Modal, and bring it back into DVC as if `dvc repro train@NAME` had run here.

    modal run deploy/modal/train.py --model se_resnet --gpu L4

Shards and parameters go up to a Volume, the stage's own command runs in an image with the hashed lock of
requirements/train-gpu.txt, models/NAME comes back and is committed to dvc.lock; `dvc repro` goes on from there. Where
the machine is taken away, Modal starts the function again elsewhere, and the training goes on after its last finished
epoch. Run it from the root of the repository; docs/modal.md says how to set it up, and what of this has been tried.
"""

from __future__ import annotations

import os
from pathlib import Path

import modal

from deploy.modal.job import Job, Outcome, forwarded, plan, run, take_over
from emotion_detection.errors import reported

NAME, GPU = "emotion-detection-training", "L4"
VOLUME, CODE, WORK = Path("/volume"), Path("/root"), Path("/tmp/work")  # noqa: S108  a container of our own
SECONDS, RESTARTS = 24 * 60 * 60, 3
FOLDERS = ("deploy/modal", "pipeline", "src")

image = modal.Image.debian_slim(python_version="3.11").pip_install_from_requirements(
    "requirements/train-gpu.txt", extra_options="--require-hashes"
)
image = image.env({"PYTHONPATH": f"{CODE}:{CODE / 'src'}", "TF_CPP_MIN_LOG_LEVEL": "2"})
for folder in FOLDERS:  # on top, so that a change of code builds no image
    image = image.add_local_dir(folder, str(CODE / folder), ignore=["**/__pycache__"])

app = modal.App(NAME)
volume = modal.Volume.from_name(NAME, create_if_missing=True)
mlflow = modal.Secret.from_dict(dict(forwarded(os.environ)))


@app.function(
    image=image,
    gpu=GPU,
    volumes={str(VOLUME): volume},
    secrets=[mlflow],
    timeout=SECONDS,
    retries=modal.Retries(max_retries=RESTARTS, initial_delay=0.0),
)
def train(job: Job) -> Outcome:
    """Runs at Modal, which saves the Volume every few seconds and once more at the end of the container."""
    volume.reload()
    try:
        return run(job, VOLUME, CODE, WORK)
    finally:
        volume.commit()


@app.local_entrypoint()
def main(model: str, gpu: str = GPU, force: bool = False) -> None:
    """Train MODEL on GPU; --force although nothing changed."""
    with reported():
        job = plan(model, force)
        if job is None:
            print(f"train@{model}: nothing changed since it was trained; --force trains it again")
            return
        upload(job)
        print(f"{job.stage}: trains on {gpu}")
        take_over(job, train.with_options(gpu=gpu).remote(job), fetch)
        volume.remove_file(job.result, recursive=True)
        print(f"models/{model} is back, and dvc.lock knows it; `dvc repro` goes on from there")


def upload(job: Job) -> None:
    """Put what the training reads on the Volume; Modal sends no block that it has already."""
    with volume.batch_upload(force=True) as batch:
        for path, place in job.uploads.items():
            put = batch.put_directory if Path(path).is_dir() else batch.put_file
            put(path, f"/{place}")


def fetch(place: str, target: Path) -> None:
    """Copy one file of the Volume."""
    with target.open("wb") as file:
        volume.read_file_into_fileobj(place, file)
