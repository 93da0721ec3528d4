"""Names of predictions: unique, in order, and readable again."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from emotion_detection.prediction_ids import PredictionIds, id_prefix, is_marked, mark_key, new_id, parse_id

DIGEST = "2c26b46b68ff" + 52 * "0"


@pytest.mark.parametrize(("version", "said"), [("7", "7"), ("1234", "1234"), ("bundle-2c26b46b68ff", None)])
def test_a_name_says_who_answered_and_when(version: str, said: str | None) -> None:
    name = new_id(id_prefix(version, DIGEST))
    found = parse_id(name)
    assert found is not None
    assert (found.version, found.digest) == (said, DIGEST[:8])
    assert abs(found.answered_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_end_of_a_name_is_a_uuid_of_version_7() -> None:
    for _ in range(1000):
        found = uuid.UUID(new_id("7-2c26b46b").removeprefix("7-2c26b46b-"))
        assert (found.version, found.variant) == (7, uuid.RFC_4122)


def test_names_differ() -> None:
    assert len({new_id("7-2c26b46b") for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize("predicted", [[3], [3, 0, 255], list(range(40))])
def test_a_marked_name_says_what_was_seen_and_cannot_be_changed(predicted: list[int]) -> None:
    secret, other = mark_key("a secret"), mark_key("another")
    name = PredictionIds(id_prefix("7", DIGEST), secret).of(predicted)
    found = parse_id(name)
    assert found is not None
    assert (found.version, found.predicted) == ("7", tuple(predicted[:32]))
    assert (is_marked(name, secret), is_marked(name, other)) == (True, False)
    for place, digit in enumerate(name):
        changed = name[:place] + ("1" if digit != "1" else "2") + name[place + 1 :]
        assert not (parse_id(changed) and is_marked(changed, secret))


def test_without_a_secret_or_a_face_a_name_says_nothing_of_what_was_seen() -> None:
    for name in (PredictionIds("7-2c26b46b", mark_key("a secret")).of([]), PredictionIds("7-2c26b46b").of([1])):
        assert len(name) == len("7-2c26b46b-") + 36
        found = parse_id(name)
        assert found is not None
        assert found.predicted == ()


@pytest.mark.parametrize(
    "text",
    [
        "", "7", "champion", "7-2c26b46b", "01a1feb8-8861-7efc-9e6d-8a2f34ca264c",
        "x-7-2c26b46b-01a1feb8-8861-7efc-9e6d-8a2f34ca264c", "7-2c26b46b-01a1feb8-8861-7efc-9e6d-8a2f34ca264",
        "7-2c26b46-01a1feb8-8861-7efc-9e6d-8a2f34ca264c", "seven-2c26b46b-01a1feb8-8861-7efc-9e6d-8a2f34ca264c",
        f"7-2c26b46b-{uuid.UUID(int=0)}", "7-2c26b46b-ffffffff-ffff-7efc-9e6d-8a2f34ca264c",
        "7-2c26b46b-01a1feb8-8861-7efc-9e6d-8a2f34ca264c-0-9f86d081884c7d65",
        "7-2c26b46b-01a1feb8-8861-7efc-9e6d-8a2f34ca264c-01-9f86d081884c7d6",
    ],
)  # fmt: skip
def test_other_texts_are_no_names(text: str) -> None:
    assert parse_id(text) is None


def test_blanks_and_capitals_of_a_copied_name_do_no_harm() -> None:
    name = new_id("7-2c26b46b")
    assert parse_id(f" {name.upper()}\n") == parse_id(name)
