"""Settings from environment and options."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.settings import Settings, SettingsError, available_cores, load_settings


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"EMOTION_{name.upper()}", raising=False)


def test_defaults_listen_on_this_machine_only() -> None:
    settings = load_settings()
    assert (settings.host, settings.bundle, settings.model) == ("127.0.0.1", None, "emotion-detector")
    assert (settings.max_bytes, settings.processes) == (10_000_000, 1)


def test_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTION_BUNDLE", "bundles/a")
    monkeypatch.setenv("EMOTION_MAX_BYTES", "5")
    settings = load_settings(["--bundle", "bundles/b"])
    assert (settings.bundle, settings.max_bytes) == (Path("bundles/b"), 5)


def test_an_empty_variable_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTION_BUNDLE", "")
    assert load_settings().bundle is None


def test_every_wrong_value_is_named_with_what_was_found_and_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTION_PORT", "http")
    monkeypatch.setenv("EMOTION_MAX_PIXELS", "0")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    port, pixels = sorted(str(caught.value).splitlines(), reverse=True)
    assert port.startswith("EMOTION_PORT or --port: found 'http'; input should be a valid integer")
    assert pixels.startswith(
        "EMOTION_MAX_PIXELS or --max-pixels: found '0'; input should be greater than or equal to 1"
    )


def test_of_a_wrong_secret_only_what_is_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTION_FEEDBACK_SECRET", "hunter2")
    monkeypatch.setenv("EMOTION_PORT", "http")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    secret, port = sorted(str(caught.value).splitlines())
    assert secret == "EMOTION_FEEDBACK_SECRET: value should have at least 16 items after validation, not 7"
    assert port.startswith("EMOTION_PORT or --port: found 'http'")


@pytest.mark.parametrize(
    ("typo", "meant"), [("EMOTION_BUNDEL", "EMOTION_BUNDLE"), ("EMOTION_MAXBYTES", "EMOTION_MAX_BYTES")]
)
def test_a_misspelt_variable_is_an_error(monkeypatch: pytest.MonkeyPatch, typo: str, meant: str) -> None:
    monkeypatch.setenv(typo, "1")
    with pytest.raises(SettingsError, match=f"{typo}: no such setting; did you mean {meant}"):
        load_settings()


def test_one_request_may_not_have_more_images_than_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTION_QUEUE_SIZE", "8")
    with pytest.raises(SettingsError, match=r"max_images \(32\) must not exceed queue_size \(8\)"):
        load_settings()
    assert load_settings(["--max-images", "8"]).queue_size == 8


def test_the_cores_are_divided_among_processes_and_none_goes_without() -> None:
    cores = available_cores()
    assert 1 <= cores <= (os.cpu_count() or 1)
    assert load_settings().worker_threads == load_settings().lone_threads == cores
    assert load_settings(["--processes", "64"]).worker_threads == max(1, cores // 64)
    given = load_settings(["--processes", "2", "--workers", "5", "--threads", "3"])
    assert (given.worker_threads, given.lone_threads) == (5, 3)


def test_variables_that_kubernetes_sets_for_a_service_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMOTION_DETECTOR_PORT", "EMOTION_DETECTOR_SERVICE_HOST", "EMOTION_DETECTOR_PORT_8000_TCP_ADDR"):
        monkeypatch.setenv(name, "tcp://10.0.0.1:8000")
    assert load_settings().port == 8000
