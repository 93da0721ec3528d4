"""What drift is measured against: bins, shares, entropy."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from emotion_detection.reference import EDGES, Histogram, Reference, entropy_bits, histogram


def test_a_value_on_an_edge_belongs_below_it_and_one_beyond_the_last_is_counted():
    counts = histogram("confidence", [0.1, 0.1000001, 1.0, 0.0]).counts
    assert counts == (2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0)
    assert histogram("sharpness", [1e9]).counts[-1] == 1
    random = np.random.default_rng(0).uniform(0, 300, 1000)
    expected = np.histogram(random, [-np.inf, *EDGES["brightness"], np.inf])[0]
    assert histogram("brightness", random).counts == tuple(expected)


def test_shares_are_of_all_and_never_zero():
    shares = Histogram(edges=(1, 2), counts=(0, 3, 6)).shares()
    np.testing.assert_allclose(shares, np.array([0.5, 3.5, 6.5]) / 10.5)


@pytest.mark.parametrize(
    ("edges", "counts"), [((1, 2), (1, 2)), ((2, 1), (1, 2, 3)), ((1, 2), (0, 0, 0)), ((1, 2), (1, -1, 3)), ((), (1,))]
)
def test_a_histogram_that_is_none_is_refused(edges, counts):
    with pytest.raises(ValidationError, match="edges"):
        Histogram(edges=edges, counts=counts)


def test_entropy_of_certainty_is_zero_and_of_none_the_most_there_is():
    np.testing.assert_allclose(entropy_bits([[1, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]]), [0, 2, 1])


def test_predicted_shares_are_smoothed_as_those_they_are_compared_with():
    one = {feature: histogram(feature, [0.5]) for feature in EDGES}
    reference = Reference(**one, predicted={"happy": 9, "sad": 0}, accuracy=0.5, mean_confidence=0.5)
    assert reference.predicted_shares() == {"happy": 9.5 / 10, "sad": 0.5 / 10}
    assert Reference.model_validate_json(reference.model_dump_json()) == reference
