"""Names of predictions: unique, in order, and readable again."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from emotion_detection.prediction_ids import id_prefix, new_id, parse_id

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


@pytest.mark.parametrize(
    "text",
    [
        "", "7", "champion", "7-2c26b46b", "01a1feb8-8861-7efc-9e6d-8a2f34ca264c",
        "x-7-2c26b46b-01a1feb8-8861-7efc-9e6d-8a2f34ca264c", "7-2c26b46b-01a1feb8-8861-7efc-9e6d-8a2f34ca264",
        "7-2c26b46-01a1feb8-8861-7efc-9e6d-8a2f34ca264c", "seven-2c26b46b-01a1feb8-8861-7efc-9e6d-8a2f34ca264c",
        f"7-2c26b46b-{uuid.UUID(int=0)}",
    ],
)  # fmt: skip
def test_other_texts_are_no_names(text: str) -> None:
    assert parse_id(text) is None


def test_blanks_and_capitals_of_a_copied_name_do_no_harm() -> None:
    name = new_id("7-2c26b46b")
    assert parse_id(f" {name.upper()}\n") == parse_id(name)
