"""The registry on sqlite and on a real server: register, resolve, promote, roll back, download."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_detection.artifacts import Report, read_record, report_dir
from emotion_detection.bundle import ModelBundle, read_bundle
from emotion_detection.errors import BundleError, RegistryError
from emotion_detection.gate import Verdict
from emotion_detection.mlflow_store import connect
from emotion_detection.params import load_params
from emotion_detection.promotion import find_candidate, judge_version, promote
from emotion_detection.registration import model_card
from emotion_detection.registry import Registry, VersionInfo, download_bundle, resolve_champion
from tests.clone import free_port
from tests.project import write_exported


@pytest.fixture(params=["sqlite", "server"])
def registry(request: pytest.FixtureRequest, project: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """An empty registered model; on the server one of the test's own."""
    assert Path.cwd() == project
    if request.param == "sqlite":
        return Registry("detector")
    url = str(request.getfixturevalue("server_url"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    return Registry(request.node.name, url)


@pytest.fixture
def local(project: Path) -> Registry:
    """An empty registered model on sqlite."""
    assert Path.cwd() == project
    return Registry("detector")


def new_run(registry: Registry) -> str:
    client = connect(registry.uri)
    experiment = client.get_experiment_by_name("tests")
    experiment_id = experiment.experiment_id if experiment else client.create_experiment("tests")
    return str(client.create_run(experiment_id).info.run_id)


def register(registry: Registry, bundle: ModelBundle | None = None) -> VersionInfo:
    return registry.register(bundle or read_bundle(Path("bundles/good")), new_run(registry))


def several(registry: Registry, count: int) -> list[VersionInfo]:
    bundles = (write_exported("good", temperature=1.0 + number) for number in range(count))
    return [register(registry, bundle) for bundle in bundles]


def champion(registry: Registry) -> str | None:
    found = registry.champion()
    return found.version if found else None


def test_a_version_tells_where_it_comes_from_and_gives_its_bundle_back(registry: Registry, tmp_path: Path) -> None:
    bundle = read_bundle(Path("bundles/good"))
    version = register(registry, bundle)
    assert (version.version, version.model) == ("1", "good")
    expected = {
        "bundle_sha256": bundle.info.digest(),
        "commit": "c0ffee",
        "training_id": bundle.info.lineage.training_id,
    }
    expected |= {"data_hash": bundle.info.lineage.data_hash, "val_accuracy": "0.9", "architecture": "lenet"}
    assert expected.items() <= version.tags.items()
    assert download_bundle(version, tmp_path / "cache/1").info == bundle.info
    assert [registry.resolve("1"), *registry.versions()] == [version, version]


def test_registering_again_changes_nothing(registry: Registry) -> None:
    first = register(registry)
    assert register(registry) == first
    assert len(registry.versions()) == 1


def test_another_bundle_of_the_same_run_leaves_the_first_version_as_it_was(registry: Registry, tmp_path: Path) -> None:
    run_id = new_run(registry)
    first = registry.register(read_bundle(Path("bundles/good")), run_id)
    second = registry.register(write_exported("good", temperature=9.0), run_id)
    assert (first.version, second.version) == ("1", "2")
    assert download_bundle(first, tmp_path / "a").info.temperature == 1.5
    assert download_bundle(second, tmp_path / "b").info.temperature == 9.0


def test_champion_and_previous_follow_promotion_and_rollback(registry: Registry) -> None:
    one, two, three = several(registry, 3)
    for version in (one, two, three):
        registry.promote(version)
    assert champion(registry) == "3"
    assert registry.resolve("previous").version == "2"
    assert registry.rollback().version == "2"
    assert registry.resolve("previous").version == "1"
    assert registry.rollback().version == champion(registry) == "1"
    with pytest.raises(RegistryError, match="no earlier champion"):
        registry.rollback()
    assert champion(registry) == "1"
    with pytest.raises(RegistryError, match="no alias 'previous'"):
        registry.resolve("previous")
    assert "rolled_back_at" in registry.resolve("3").tags
    registry.promote(three)
    assert registry.rollback().version == "1"


def test_an_alias_moved_by_hand_is_part_of_the_history(local: Registry) -> None:
    one, two, three = several(local, 3)
    local.promote(one)
    connect(local.uri).set_registered_model_alias("detector", "champion", two.version)
    local.promote(three)
    assert [local.rollback().version, local.rollback().version] == ["2", "1"]


def test_rollback_passes_over_versions_that_were_deleted(local: Registry) -> None:
    one, two, three = several(local, 3)
    for version in (one, two, three):
        local.promote(version)
    connect(local.uri).delete_model_version("detector", two.version)
    assert local.rollback().version == "1"


def test_rollback_without_a_champion_goes_to_the_last_one_that_is_left(registry: Registry) -> None:
    one, two, three = several(registry, 3)
    for version in (one, two, three):
        registry.promote(version)
    connect(registry.uri).delete_model_version(registry.model, three.version)
    assert champion(registry) is None
    assert registry.rollback().version == champion(registry) == "2"
    assert registry.resolve("previous").version == "1"
    assert "rolled_back_at" not in registry.resolve("2").tags


@pytest.mark.parametrize("deleted", [["2"], ["1", "2"]])
def test_a_promotion_is_whole_where_champions_were_deleted(registry: Registry, deleted: list[str]) -> None:
    one, two, three = several(registry, 3)
    for version in (one, two):
        registry.promote(version)
    registry.challenge(three)
    for version in deleted:
        connect(registry.uri).delete_model_version(registry.model, version)
    registry.promote(registry.resolve("3"))
    assert registry.resolve("3").aliases == ("champion",)
    if "1" in deleted:
        with pytest.raises(RegistryError, match="no earlier champion"):
            registry.rollback()
    else:
        assert registry.resolve("previous").version == registry.rollback().version == "1"


def test_the_same_champion_on_both_sides_of_a_deleted_one_is_one(local: Registry) -> None:
    one, two, three = several(local, 3)
    for version in (three, one, two, one):
        local.promote(version)
    connect(local.uri).delete_model_version("detector", two.version)
    assert local.rollback().version == "3"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("9", "no version '9'; there is 1 @stable, 2"),
        ("champion", "no alias 'champion'; `emotion promote` sets it"),
        ("x", "no alias 'x'"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(local: Registry, reference: str, message: str) -> None:
    several(local, 2)
    connect(local.uri).set_registered_model_alias("detector", "stable", "1")
    with pytest.raises(RegistryError, match=message):
        local.resolve(reference)


def test_an_empty_registry_says_so(registry: Registry) -> None:
    assert registry.versions() == []
    assert registry.champion() is None
    with pytest.raises(RegistryError, match="no versions yet; `emotion run`"):
        resolve_champion(registry.model)
    with pytest.raises(RegistryError, match="no earlier champion"):
        registry.rollback()


def test_files_changed_in_the_store_are_refused(local: Registry, tmp_path: Path) -> None:
    version = register(local)
    stored = Path(version.source.removeprefix("file://"))
    (stored / "model.onnx").write_bytes(b"another model")
    with pytest.raises(BundleError, match=r"model\.onnx: SHA-256"):
        download_bundle(version, tmp_path / "cache/1")
    write_exported("good", temperature=3.0)
    for name in ("model.onnx", "bundle.json"):
        (stored / name).write_bytes(Path("bundles/good", name).read_bytes())
    with pytest.raises(BundleError, match="were changed in MLflow"):
        download_bundle(version, tmp_path / "cache/1")
    assert not (tmp_path / "cache/1").exists()
    assert list((tmp_path / "cache").iterdir()) == []


def test_files_gone_from_the_store_are_a_registry_error(local: Registry, tmp_path: Path) -> None:
    version = register(local)
    Path(version.source, "bundle.json").unlink()
    Path(version.source, "model.onnx").unlink()
    Path(version.source).rmdir()
    with pytest.raises(RegistryError):
        download_bundle(version, tmp_path / "cache/1")


def test_a_download_is_kept_and_a_damaged_or_foreign_one_replaced(local: Registry, tmp_path: Path) -> None:
    one, two = several(local, 2)
    model = download_bundle(one, tmp_path / "cache").model_path
    before = model.stat().st_mtime_ns
    assert download_bundle(one, tmp_path / "cache").model_path.stat().st_mtime_ns == before
    model.write_bytes(b"damaged")
    assert download_bundle(one, tmp_path / "cache").info.temperature == 1.0
    assert download_bundle(two, tmp_path / "cache").info.temperature == 2.0


def test_an_unreachable_server_is_named_with_what_to_do() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RegistryError, match=f"{url}: no answer; start that server, or set MLFLOW_TRACKING_URI"):
        Registry("detector", url)


def test_the_server_can_import_it_without_anything_that_only_training_needs() -> None:
    code = (
        "import sys, emotion_detection.registry; print([m for m in sys.modules if m.startswith('emotion_detection.')])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout.replace("'", '"')) == [
        f"emotion_detection.{name}"
        for name in ("errors", "reference", "bundle", "mlflow_store", "versions", "registry")
    ]


def test_promotion_goes_through_the_gate_and_keeps_the_verdict(registry: Registry, tmp_path: Path) -> None:
    params = load_params()
    good, poor = (register(registry, read_bundle(Path("bundles", model))) for model in ("good", "poor"))
    assert promote(params, registry, good).outcome == "promoted"
    refused = promote(params, registry, poor)
    assert (refused.outcome, refused.promoted) == ("refused", False)
    assert champion(registry) == good.version
    tags = registry.resolve(poor.version).tags
    assert tags["verdict"] == "refused"
    assert Verdict.model_validate_json(tags["verdict_details"]) == refused.verdict
    kept = connect(registry.uri).download_artifacts(str(poor.run_id), "gate/version-2.json", str(tmp_path))
    assert json.loads(Path(kept).read_text())["passed"] is False
    assert promote(params, registry, find_candidate(params, registry, "1")).outcome == "champion"
    found = registry.find(read_bundle(Path("bundles/good")).info.digest())
    assert found is not None
    assert promote(params, registry, found).outcome == "champion"


def test_force_promotes_whatever_the_gate_says_and_keeps_the_reason(local: Registry) -> None:
    params = load_params()
    poor = register(local, read_bundle(Path("bundles/poor")))
    decision = promote(params, local, poor, reason="demonstration")
    assert decision.verdict is not None
    assert not decision.verdict.passed
    assert champion(local) == "1"
    assert local.resolve("1").tags["forced_because"] == "demonstration"
    assert local.resolve("1").tags["verdict"] == "forced"


def test_force_works_where_the_gate_cannot_be_asked(local: Registry) -> None:
    version = register(local)
    Path("data/shards/dataset.json").unlink()
    assert promote(load_params(), local, version, reason="the data is elsewhere").promoted


def test_a_champion_with_another_input_is_no_obstacle(local: Registry) -> None:
    old = register(local, write_exported("fair", image_size=64))
    local.promote(old)
    verdict = judge_version(load_params(), local, register(local))
    assert verdict.passed
    assert "64 x 64" in verdict.notes[0]


def test_the_candidate_is_a_version_an_alias_a_model_or_the_best_on_validation(local: Registry) -> None:
    params = load_params()
    versions = {model: register(local, read_bundle(Path("bundles", model))) for model in ("poor", "good", "fair")}
    local.promote(versions["poor"])
    found = [find_candidate(params, local, reference).model for reference in ("3", "champion", "fair", None)]
    assert found == ["fair", "poor", "fair", "good"]


def test_the_model_card_shows_figures_classes_and_lineage(project: Path) -> None:
    assert Path.cwd() == project
    bundle, report = read_bundle(Path("bundles/good")).info, read_record(report_dir("good") / "metrics.json", Report)
    card = model_card(bundle, report)
    assert "Test accuracy 0.900 (0.800 to 1.000)" in card
    for text in ("| happy | 0.900 | 0.900 |", "c0ffee", bundle.lineage.data_hash, bundle.digest()):
        assert text in card
