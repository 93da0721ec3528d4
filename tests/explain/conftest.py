"""Small networks that have learnt the drawn faces in a few seconds, and faces that they have not seen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pointing_game import Faces, draw_faces
from emotion_detection.backend import keras
from emotion_detection.data.sources.action_units import EMOTIONS
from emotion_detection.models import InputSpec, build_model
from emotion_detection.params import SyntheticParams, load_params
from tests.workspace import MODEL, faces, workspace

LABELS = sorted(EMOTIONS)
SPEC = InputSpec(image_size=48, channels=1, classes=len(LABELS))
SIZES = {"lenet": {}, "vit": {"patch_size": 8, "dim": 32, "depth": 2}}
TRAINING = 720

Networks = Callable[[str], keras.Model]


def random_network(architecture: str, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return build_model(architecture, SPEC, SIZES[architecture])


@pytest.fixture(scope="package")
def drawn() -> Faces:
    return draw_faces(
        SyntheticParams(difficulty=0.1, image_size=48), list(range(TRAINING + 80)), seed=0, size=48, channels=1
    )


@pytest.fixture(scope="package")
def unseen(drawn: Faces) -> Faces:
    masks = {name: mask[TRAINING:] for name, mask in drawn.masks.items()}
    return Faces(drawn.images[TRAINING:], drawn.labels[TRAINING:], masks)


@pytest.fixture(scope="package")
def trained(drawn: Faces) -> Networks:
    """Networks by architecture, each trained when it is first asked for."""
    known: dict[str, keras.Model] = {}

    def network(architecture: str) -> keras.Model:
        if architecture not in known:
            model = random_network(architecture, seed=0)
            model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            labels = np.array([LABELS.index(label) for label in drawn.labels])
            model.fit(drawn.images[:TRAINING], labels[:TRAINING], batch_size=32, epochs=8, verbose=0)
            known[architecture] = model
        return known[architecture]

    return network


@pytest.fixture(scope="package")
def finished_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository root with one model, trained, evaluated and exported."""
    from emotion_detection.evaluation import evaluate
    from emotion_detection.export import export_bundle

    directory = workspace(tmp_path_factory, tmp_path_factory.mktemp("finished"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        evaluate(MODEL, load_params())
        export_bundle(MODEL, load_params())
    return directory


@pytest.fixture
def finished(finished_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: a copy of the finished repository root."""
    shutil.copytree(finished_template, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="package")
def test_images() -> np.ndarray:
    """uint8 (N, S, S, 1) as the finished model knows them."""
    images: np.ndarray = faces("test")[0]
    return images
