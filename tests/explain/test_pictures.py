"""What stands in a model's report: which faces, with which answers, and that there are pictures of them."""

import numpy as np
import pytest
from PIL import Image

from emotion_detection.backend import keras
from emotion_detection.explain import report as explanations_of_report
from emotion_detection.explain.report import choose, explanation_drawings
from emotion_detection.figures import write_figures
from emotion_detection.models import InputSpec, build_model
from tests.test_evaluation import answers

VIT = {"patch_size": 4, "dim": 8, "depth": 1, "heads": 2}


def small(architecture: str, **hyperparameters) -> keras.Model:
    return build_model(architecture, InputSpec(8, 1, 3), hyperparameters)


def test_right_and_wrong_answers_are_chosen_most_confident_first():
    test = answers(images=300)
    chosen = choose(test, 12)
    right = test.predicted[chosen] == test.labels[chosen]
    assert right.tolist() == [True] * 6 + [False] * 6
    assert sorted(test.labels[chosen[:3]]) == [0, 1, 2]
    confidence = test.probabilities.max(axis=1)
    assert (np.diff(confidence[chosen[6:]]) <= 0).all()
    assert confidence[chosen[6]] == confidence[test.predicted != test.labels].max()


def test_where_there_are_few_mistakes_right_answers_fill_the_picture():
    test = answers(images=100)
    logits = 9 * np.eye(3, dtype=np.float32)[test.labels]
    logits[7] = np.roll(logits[7], 1)
    chosen = choose(type(test)("test", test.names, test.images, test.sha256, test.labels, logits), 12)
    assert len(set(chosen)) == 12
    assert chosen[-1] == 7


def test_more_than_there_are_and_none_at_all():
    test = answers(images=30)
    assert sorted(choose(test, 300)) == list(range(30))
    assert choose(test, 0) == []
    assert explanation_drawings(small("lenet", filters=(4,)), test, 0) == {}


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (lambda: small("lenet", filters=(4,)), {"explanations", "feature_maps"}),
        (lambda: small("vit", **VIT), {"explanations"}),
    ],
)
def test_report_has_pictures_that_fit_the_model(model, names, tmp_path):
    drawings = explanation_drawings(model(), answers(images=40), 8)
    assert set(drawings) == names
    write_figures(tmp_path, drawings)
    for name in names:
        picture = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)
        assert min(picture.shape[:2]) > 100
        assert np.abs(picture[:, :, 0] - picture[:, :, 2]).max() > 60  # colours, not only grey faces


def test_a_model_without_insight_is_explained_by_occlusion(monkeypatch):
    monkeypatch.setattr(explanations_of_report, "explainer", lambda _: None)
    heat, title = explanations_of_report.explain_answers(
        small("lenet", filters=(4,)), answers(images=3).images, np.array([0, 1, 2]), 1.0
    )
    assert title == "Occlusion"
    assert heat.shape == (3, 8, 8)
