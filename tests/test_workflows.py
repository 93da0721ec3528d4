"""Rules for `.github` that hold without GitHub: forms, pins, permissions, secrets, and what a step may be."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring.retrain.settings import Settings
from tests.actions import BASH, Expression, event, load, triggered

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
WORKFLOWS = {file.stem: load(file) for file in FILES}
PREPARE = load(ROOT / ".github/actions/prepare/action.yml")
JOBS = {f"{name}/{job}": plan for name, workflow in WORKFLOWS.items() for job, plan in workflow["jobs"].items()}
SMALL = (  # what a step may be besides a target of make
    r'cat report/report\.md >> "\$GITHUB_STEP_SUMMARY"',
    r'echo "candidate=\$\(cat report/candidate\.txt\)" >> "\$GITHUB_OUTPUT"',
    r'echo "image=\$image" >> "\$GITHUB_OUTPUT"',
    r"sudo apt-get update",
    r"gh (pr comment|workflow run) .*",
    r"aws eks update-kubeconfig .*",
    r"az aks get-credentials .*",
)
each_job = pytest.mark.parametrize("name", JOBS)


def steps(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from job["steps"]


def texts(value: Any) -> Iterator[str]:
    """All strings in a part of a workflow."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


def secrets_of(value: Any) -> set[str]:
    return {name for text in texts(value) for name in re.findall(r"secrets\.(\w+)", text)}


def test_there_are_the_workflows_that_the_readme_names() -> None:
    assert set(WORKFLOWS) == {"ci", "retrain", "promote", "deploy"}


def test_forms_expressions_and_security_by_the_tools_of_make_audit() -> None:
    """JSON schemas, zizmor, actionlint; the expressions of a workflow are among what they check."""
    result = subprocess.run(["make", "audit-workflows"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_dependabot_has_one_entry_for_each_kind_and_folder_and_reads_what_is_there() -> None:
    """GitHub refuses a file with two for the same; of Dockerfiles it reads what stands in FROM, not in an ARG."""
    updates = load(ROOT / ".github/dependabot.yml")["updates"]
    entries = [
        (each["package-ecosystem"], folder)
        for each in updates
        for folder in each.get("directories", [each.get("directory")])
    ]
    assert len(set(entries)) == len(entries)
    bases = [
        line for file in ROOT.glob("docker/*.Dockerfile") for line in re.findall("^FROM.*", file.read_text(), re.M)
    ]
    assert any("@sha256:" in line for line in bases) == (("docker", "/docker") in entries)


def test_the_documents_name_every_part_of_the_audit_and_every_lock() -> None:
    makefile, locks = (ROOT / "Makefile").read_text(), {file.stem for file in ROOT.glob("requirements/*.txt")}
    table = (ROOT / "docs/ci.md").read_text()
    [parts] = re.findall(r"^audit: (.*?) ##", makefile, re.M)
    assert re.findall(r"^\| `(audit-[a-z]+)` \|", table, re.M) == parts.split()
    [listed] = re.findall(r"CycloneDX of each lock \((.*?)\)", table)
    assert set(re.findall(r"[\w-]+", listed)) == locks - {"uv", "audit", "dev"}  # as in the target audit-sbom
    [row] = re.findall(r"^\| `requirements/` \|.*", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    folders = {f"{path.name}/" for path in ROOT.glob("requirements/*/")}
    assert locks | folders <= set(re.findall(r"`([\w/-]+)`", row))


@pytest.mark.parametrize("file", [*FILES, ROOT / ".github/actions/prepare/action.yml"], ids=lambda file: file.stem)
def test_actions_are_pinned_by_commit_with_their_version_beside_it(file: Path) -> None:
    used = re.findall(r"uses: (.*)", file.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"\./\S+|[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_an_action_has_one_version() -> None:
    used = {
        match for file in FILES for match in re.findall(r"uses: ([\w-]+/[\w-]+)\S*@([0-9a-f]{40})", file.read_text())
    }
    assert len(used) == len({action for action, _ in used})


@each_job
def test_a_job_says_what_it_may_do_and_how_long(name: str) -> None:
    job = JOBS[name]
    assert WORKFLOWS[name.partition("/")[0]]["permissions"] == {}
    assert job["permissions"]
    assert 0 < job["timeout-minutes"] <= 350
    writes = {right for right, level in job["permissions"].items() if level == "write"}
    assert writes <= {"id-token", "pull-requests", "actions", "packages"}


@each_job
def test_a_step_is_a_target_of_make_or_trivial(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for step in steps(JOBS[name]):
        for line in step.get("run", "").splitlines():
            called = re.search(r"\bmake (?:--silent )?([a-z -]+?)(?:\)|$| \|)", line)
            assert called or any(re.fullmatch(small, line) for small in SMALL), line
            assert not called or set(called[1].split()) <= targets, line


@pytest.mark.parametrize("status", [0, 1])
def test_an_image_that_cannot_be_pushed_is_not_rolled_out(status: int, tmp_path: Path) -> None:
    """And the name of one that can is a name, whatever capitals its repository has."""
    (step,) = (step for step in JOBS["deploy/image"]["steps"] if step.get("id") == "push")
    (tmp_path / "make").write_text(f'#!/bin/sh\necho "$IMAGE@sha256:0"\nexit {status}\n')
    (tmp_path / "make").chmod(0o755)
    output = tmp_path / "output"
    output.touch()
    place = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "GITHUB_OUTPUT": str(output)}
    name = {"IMAGE": "ghcr.io/Owner/Faces/emotion-server"}
    result = subprocess.run([*BASH, "-c", step["run"]], env=place | name, check=False)
    assert result.returncode == status
    assert output.read_text() == ("" if status else "image=ghcr.io/owner/faces/emotion-server@sha256:0\n")


@each_job
def test_text_from_outside_comes_through_the_environment(name: str) -> None:
    assert [step["run"] for step in steps(JOBS[name]) if "${{" in step.get("run", "")] == []


@each_job
def test_secrets_are_those_of_an_environment_and_out_of_reach_of_pull_requests(name: str) -> None:
    job = JOBS[name]
    if secrets_of(job):
        assert job["environment"] in ("training", "production")
        github = event("pull_request", pull_request={"number": 1})
        triggers = WORKFLOWS[name.partition("/")[0]]["on"]
        reached = "pull_request" in triggers and Expression({"github": github}, ROOT).true(job.get("if", True))
        assert not reached
    assert "pull_request_target" not in WORKFLOWS[name.partition("/")[0]]["on"]


@pytest.mark.parametrize(
    ("name", "file", "runs"),
    [
        ("push", "params.yaml", True),
        ("push", "dvc.lock", True),
        ("pull_request", "dvc.yaml", True),
        ("pull_request", "data/faces.zip.dvc", True),
        ("pull_request", "src/emotion_detection/models/vit.py", True),
        ("push", "pipeline/train.py", True),
        ("push", "README.md", False),
        ("pull_request", "serving/app.py", False),
    ],
)
def test_retrain_starts_where_a_change_may_touch_a_model(name: str, file: str, runs: bool) -> None:
    assert triggered(WORKFLOWS["retrain"], name, [file]) is runs


def test_the_webhook_starts_retrain_and_finds_it_by_its_name() -> None:
    """See monitoring/retrain/github.py: the incident stands in the run's name."""
    assert WORKFLOWS["retrain"]["on"]["repository_dispatch"]["types"] == [Settings.model_fields["event_type"].default]
    github = event("repository_dispatch", client_payload={"incident": "0193-abc"})
    assert Expression({"github": github}, ROOT).text(WORKFLOWS["retrain"]["run-name"]) == "retrain 0193-abc"


def test_what_is_forked_asks_for_no_variable() -> None:
    """Without any variable or secret set, every step of `retrain` that would need one is skipped."""
    contexts = {
        "github": event("schedule"),
        "vars": {},
        "inputs": {},
        "needs": {"train": {"outputs": {"candidate": "3"}}},
    }
    expressions = Expression(contexts, ROOT)
    assert expressions.true(WORKFLOWS["retrain"]["jobs"]["train"]["if"])
    assert not expressions.true(WORKFLOWS["retrain"]["jobs"]["promote"]["if"])
    role = next(step for step in PREPARE["runs"]["steps"] if "aws-actions" in step["uses"])
    assert not Expression({"inputs": {"role": ""}}, ROOT).true(role["if"])


def test_a_key_that_would_be_committed_is_found(tmp_path: Path) -> None:
    baseline = Path(shutil.copy(ROOT / ".secrets.baseline", tmp_path))
    (tmp_path / "settings.py").write_text(f"key = 'AKIA{'Q3EGRIV5' * 2}'\n")
    (tmp_path / "clean.py").write_text("key = None\n")
    command = [ROOT / ".venv-audit/bin/detect-secrets-hook", "--no-verify", "--baseline", baseline]
    found = [
        subprocess.run([*command, tmp_path / name], capture_output=True, text=True, check=False)
        for name in ("settings.py", "clean.py")
    ]
    assert [result.returncode for result in found] == [1, 0]
    assert "AWS Access Key" in found[0].stdout


def test_a_run_by_hand_brings_its_words_and_may_run_everything() -> None:
    step = next(step for step in WORKFLOWS["retrain"]["jobs"]["train"]["steps"] if "SETTINGS" in step.get("env", {}))
    contexts = {"github": event("push", before="1234"), "vars": {}, "secrets": {}}
    by_hand = Expression(contexts | {"inputs": {"settings": "a=1 b=2", "force": True}}, ROOT)
    pushed = Expression(contexts | {"inputs": {}}, ROOT)
    names = ("SETTINGS", "FORCE", "BASE")
    assert [by_hand.text(step["env"][name]) for name in names] == ["a=1 b=2", "--force", "1234 .cache/baseline"]
    assert [pushed.text(step["env"][name]) or "" for name in names] == ["", "", "1234 .cache/baseline"]


@pytest.mark.parametrize(
    ("target", "given", "words"),
    [
        ("retrain", {"SETTINGS": "seed=1 *"}, "run --no-promote seed=1 * --"),
        ("retrain", {"SETTINGS": "x=$(touch bad);`touch bad`"}, "run --no-promote x=$(touch bad);`touch bad` --"),
        ("retrain", {"FORCE": "--force"}, "run --no-promote -- --force"),
        ("retrain", {"DVC_REMOTE_URL": "/r"}, "run --no-promote -- --pull --allow-missing"),
        ("gate", {"VERSION": "3; touch bad"}, "gate 3; touch bad"),
        ("promote", {"VERSION": "3"}, "promote 3"),
        ("promote", {"VERSION": "3", "REASON": "it's $(touch bad)"}, "promote 3 --force --reason it's $(touch bad)"),
    ],
)
def test_make_hands_on_what_it_is_given_and_executes_none_of_it(
    tmp_path: Path, target: str, given: dict[str, str], words: str
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in ("requirements/uv.txt", "requirements/train.txt", "pyproject.toml", ".venv/bin/uv", ".venv/.train"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for program in ("emotion", "dvc"):
        (tmp_path / ".venv/bin" / program).write_text(
            f'#!/bin/sh\n[ {program} = dvc ] || printf "%s\\n" "$*" > asked\n'
        )
        (tmp_path / ".venv/bin" / program).chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MAKE"))}
    result = subprocess.run(
        ["make", target], cwd=tmp_path, env=clean | given, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "asked").read_text() == f"{words}\n"
    assert not (tmp_path / "bad").exists()
