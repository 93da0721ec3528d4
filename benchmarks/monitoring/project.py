"""A small project that can be retrained, and the labelled faces that it is retrained with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emotion_detection.data.sources.synthetic import SyntheticSource
from emotion_detection.params import SplitParams, SyntheticParams
from emotion_detection.replay import SCENARIOS, change_face
from tests.clone import clone_of_this_checkout


@dataclass(frozen=True)
class Project:
    """What is watched, and how it is retrained."""

    directory: Path
    """Root of a project with a champion in its own registry."""
    command: str
    """Retrains and promotes; runs in `directory`."""


def small_project(folder: Path, faces: int) -> Project:
    """A clone with a directory of drawn faces, trained and promoted once."""
    clone = clone_of_this_checkout(folder / "clone")
    samples = SyntheticSource(SyntheticParams(count=faces), SplitParams(), seed=0)
    add_faces(folder / "faces", ((sample.path, sample.data) for sample in samples))
    models = {"vit": None, "lenet": {"architecture": "lenet", "training": {"epochs": 8}}}
    clone.set_params(data={"source": str(folder / "faces")}, models=models)
    clone.set_params(gate={"min_accuracy": 0.3})
    clone.run("emotion", "run")
    return Project(clone.path, f"env PYTHONPATH={clone.path / 'src'} emotion run")


def add_faces(folder: Path, faces: Iterator[tuple[str, bytes]]) -> None:
    """Write image files under the paths <split>/<class>/<name>."""
    for name, data in faces:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def dark_faces(count: int) -> Iterator[tuple[str, bytes]]:
    """Labelled faces as they are when the light is out, by path."""
    samples = SyntheticSource(SyntheticParams(count=count), SplitParams(), seed=1)
    for number, sample in enumerate(samples):
        changed = change_face(sample.data, SCENARIOS["dark-room"].steps, 1, number)
        yield sample.path.replace(".jpg", "-dark.png"), changed
