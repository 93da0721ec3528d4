"""The workflows `retrain` and `promote`, their own steps in clean clones: a pull request, an alert, by hand.

No GitHub is at hand: `tests.actions` does what a runner does with the YAML files. DVC, its remote, MLflow's registry
and the pipeline are real.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from emotion_detection.registry import Registry
from tests.actions import Runner, event, only, stages
from tests.clone import Clone

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole_path"), pytest.mark.timeout(1200)]
OURS = {"number": 7, "head": {"repo": {"full_name": "owner/name"}}}


def upstream_of(pipeline: Clone, path: Path) -> Clone:
    """The repository at GitHub: what the pipeline's clone has committed."""
    subprocess.run(["git", "clone", "-q", pipeline.path, path], check=True)
    return Clone(path)


def commit_of(clone: Clone) -> str:
    return clone.run("git", "rev-parse", "HEAD").stdout.strip()


def keep_caches(pipeline: Clone, runner: Runner) -> None:
    """What an earlier run on main has left."""
    cache = runner.directory / "caches/dvc-earlier"
    shutil.copytree(pipeline.path / ".dvc/cache", cache / ".dvc/cache")
    (cache / ".cache/baseline").mkdir(parents=True)
    for file in ("params.yaml", "comparison/metrics.json"):
        shutil.copy(pipeline.path / file, cache / ".cache/baseline")


def share(pipeline: Clone, remote: Path) -> None:
    pipeline.run("dvc", "remote", "add", "-f", "--local", "team", str(remote))
    pipeline.run("dvc", "push", "-q", "--run-cache", "-r", "team")


def registered_in(directory: Path) -> Registry:
    """The registry of a runner that was told of no other."""
    return Registry("emotion-detector", f"sqlite:///{directory}/mlruns/mlflow.db")


def test_a_pull_request_that_changes_one_parameter_retrains_its_model_and_tells_the_difference(
    pipeline: Clone, tmp_path: Path
) -> None:
    upstream = upstream_of(pipeline, tmp_path / "upstream")
    base = commit_of(upstream)
    upstream.set_params(models={"vit": {"dropout": 0.33}})
    upstream.commit("dropout")
    runner = Runner(tmp_path / "github", upstream.path, secrets={"MLFLOW_TRACKING_PASSWORD": "secret"})
    keep_caches(pipeline, runner)

    jobs = runner.run("retrain.yml", event("pull_request", pull_request=OURS | {"base": {"sha": base}}))

    assert set(jobs) == {"review", "comment"}
    review = only(jobs, "review")
    changed = [f"{stage}@vit" for stage in ("train", "evaluate", "export", "register")]
    # The registry of a runner is empty: what is unchanged is registered from its files.
    assert sorted(stages(review.log)) == sorted([*changed, "register@lenet", "compare"])
    assert "| models.vit.dropout | (none) | `0.33` |" in review.summary
    assert f"Against `{base[:12]}`" in review.summary
    assert "from the cache (7): ingest, validate, shards, pictures, train@lenet" in review.summary
    candidate = (review.directory / "report/candidate.txt").read_text()
    registry = registered_in(review.directory)
    assert registry.resolve(candidate).model in ("lenet", "vit")
    assert {version.model for version in registry.versions()} == {"lenet", "vit"}
    assert runner.gh == ["pr comment 7 --repo owner/name --edit-last --create-if-none --body-file report.md"]
    assert (only(jobs, "comment").directory / "report.md").read_text() == review.summary
    assert (review.directory / "report/comparison/index.html").is_file()
    assert not list((tmp_path / "github/caches").glob("dvc-*-*"))  # what a pull request makes is kept for nobody


def test_a_push_that_changes_nothing_fetches_everything_and_runs_nothing(pipeline: Clone, tmp_path: Path) -> None:
    """With a committed dvc.lock and a remote, as a team has them."""
    share(pipeline, tmp_path / "remote")
    upstream = upstream_of(pipeline, tmp_path / "upstream")
    variables = {"DVC_REMOTE_URL": str(tmp_path / "remote")}

    jobs = Runner(tmp_path / "github", upstream.path, variables).run(
        "retrain.yml", event("push", before=commit_of(upstream))
    )

    assert set(jobs) == {"train"}  # the runner's own registry is gone with it: nothing can be promoted
    train = only(jobs, "train")
    assert stages(train.log) == []
    assert "no parameter changed" in train.summary
    assert {version.model for version in registered_in(train.directory).versions()} == {"lenet", "vit"}


def test_an_alert_retrains_on_more_images_shares_them_and_the_candidate_is_promoted_and_taken_back(
    pipeline: Clone, tmp_path: Path
) -> None:
    """As in this repository, no dvc.lock is committed: what was made before is found in the remote's cache of runs."""
    upstream = upstream_of(pipeline, tmp_path / "upstream")
    upstream.run("git", "rm", "-q", "dvc.lock")
    upstream.set_params(data={"synthetic": {"count": 430}}, models={"lenet": None}, gate={"margin": 1.0})
    upstream.set_params(evaluation={"ten_crop": False, "robustness_images": 0}, export={"int8": {"enabled": False}})
    upstream.commit("thirty more images, one model")
    shutil.copytree(pipeline.path / "mlruns", tmp_path / "mlruns")
    registry = Registry("emotion-detector", f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    former = registry.versions()[-1]
    registry.promote(former)
    share(pipeline, tmp_path / "remote")
    variables = {"DVC_REMOTE_URL": str(tmp_path / "remote"), "MLFLOW_TRACKING_URI": registry.uri}
    runner = Runner(tmp_path / "github", upstream.path, variables)

    jobs = runner.run("retrain.yml", event("repository_dispatch", client_payload={"incident": "0193-ab`c"}))

    train = only(jobs, "train")
    chain = [f"{stage}@vit" for stage in ("train", "evaluate", "export", "register")]
    assert sorted(stages(train.log)) == sorted(["ingest", "validate", "shards", "pictures", *chain, "compare"])
    assert "## Retraining for incident 0193-abc" in train.summary
    assert "Nothing is known of what it was before" in train.summary
    version = train.outputs["candidate"]
    assert registry.resolve(version).model == "vit"
    assert runner.gh == [f"workflow run promote.yml --repo owner/name --ref main --field version={version}"]
    (kept,) = (tmp_path / "github/caches").iterdir()
    assert (kept / ".cache/baseline/metrics.json").is_file()

    promoted = runner.run("promote.yml", event("workflow_dispatch", inputs={"version": version}))
    assert stages(only(promoted, "gate").log) == []
    assert "accuracy" in promoted["gate"].summary
    assert only(promoted, "promote").ran == ["make promote"]
    assert registry.resolve("champion").version == version

    back = runner.run("promote.yml", event("workflow_dispatch", inputs={"action": "rollback"}))
    assert set(back) == {"rollback"}
    assert only(back, "rollback")
    assert registry.resolve("champion").version == former.version
