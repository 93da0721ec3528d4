"""API keys: made, kept as hashes, read back."""

from __future__ import annotations

import hashlib
import re
from datetime import date

import pytest
from typer.testing import CliRunner

from emotion_detection.api_keys import ApiKeyError, create_key, hash_key, parse_keys
from emotion_detection.cli import app

DIGEST = "ab" * 32


def test_what_is_kept_is_the_hash_of_the_key() -> None:
    key, kept = create_key("phone", date(2027, 1, 31))
    assert kept.digest == hash_key(key.encode()) == hashlib.sha256(key.encode()).digest()
    assert re.fullmatch(r"emo_[\w-]{43}", key)  # 256 bits
    assert key not in str(kept)
    assert parse_keys(f"# keys\n\n  {kept}  \n", "keys.txt") == [kept]


def test_keys_are_never_the_same() -> None:
    assert len({create_key("a")[0] for _ in range(100)}) == 100


def test_a_key_is_valid_to_the_end_of_its_last_day() -> None:
    [key] = parse_keys(f"a sha256:{DIGEST} 1970-01-02", "keys.txt")
    assert key.ends == 2 * 86400
    assert parse_keys(f"a sha256:{DIGEST}", "keys.txt")[0].ends == float("inf")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("emo_a-key-instead-of-its-hash", "keys.txt, line 1: expected `NAME sha256:"),
        (f"\na sha256:{DIGEST[:-1]}", "keys.txt, line 2: expected"),
        (f"a sha256:{DIGEST} tomorrow", "line 1: the last day is no date"),
        (f"a/b sha256:{DIGEST}", "line 1: a key's name has"),
        (f"a sha256:{DIGEST}\na sha256:{'cd' * 32}", "two lines have the same name"),
        (f"a sha256:{DIGEST}\nb sha256:{DIGEST}", "two lines have the same key"),
    ],
)
def test_wrong_lines_are_named_and_never_shown(text: str, message: str) -> None:
    with pytest.raises(ApiKeyError, match=re.escape(message)) as caught:
        parse_keys(text, "keys.txt")
    assert "emo_" not in str(caught.value)
    assert DIGEST[:-1] not in str(caught.value)


def test_the_command_shows_the_key_once_and_gives_the_line_for_the_file() -> None:
    result = CliRunner().invoke(app, ["keys", "new", "--name", "phone", "--last-day", "2027-01-31"])
    assert result.exit_code == 0
    [kept] = parse_keys(result.stdout, "standard output")  # nothing but the line: it can go into the file as it is
    [key] = [line for line in result.stderr.splitlines() if line.startswith("emo_")]
    assert (kept.name, kept.digest, kept.last_day) == ("phone", hash_key(key.encode()), date(2027, 1, 31))


def test_the_command_refuses_names_that_would_not_stand_in_a_line() -> None:
    result = CliRunner().invoke(app, ["keys", "new", "--name", "a b"])
    assert result.exit_code == 1
    assert "a key's name has 1 to 64" in result.stderr
