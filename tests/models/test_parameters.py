"""Standard architectures have the parameters of Keras's applications and of the literature."""

from __future__ import annotations

import pytest

from benchmarks.architectures import Row, rows


def test_every_standard_architecture_has_its_published_size(subtests: pytest.Subtests) -> None:
    found: list[Row] = list(rows())
    assert {row.architecture for row in found} == {
        "vgg16",
        "resnet34",
        "resnet50",
        "mobilenet_v2",
        "efficientnet_b4",
        "vit",
        "mini_xception",
    }
    for row in found:
        with subtests.test(row.architecture, part=row.part):
            assert row.parameters == row.expected
