"""Dockerfiles, and the compose file: what they name exists, what they start is pinned, and nothing runs as root."""

from __future__ import annotations

import getpass
import os
import pwd
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.env import DVC_SITE_CACHE_DIR

from monitoring.retrain.settings import Settings as RetrainSettings
from serving.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {f"emotion-{file.stem}" for file in DOCKERFILES}
DIGEST = r"[\w./-]+/[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}"
each_file = pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
each_service = pytest.mark.parametrize("name", SERVICES)


def steps(file: Path) -> list[list[str]]:
    """Instructions and their words, with lines joined and comments gone."""
    lines = re.sub(r"^#.*\n", "", file.read_text(), flags=re.M).replace("\\\n", " ")
    return [line.split() for line in lines.splitlines() if line.strip()]


def variables(file: Path) -> dict[str, str]:
    """The environment of what runs in an image."""
    return dict(word.split("=", 1) for words in steps(file) if words[0] == "ENV" for word in words[1:])


def test_hadolint_and_the_schema_of_compose_by_the_tools_of_make_audit() -> None:
    result = subprocess.run(["make", "audit-images"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_there_are_the_images_that_make_and_compose_speak_of() -> None:
    assert {file.stem for file in DOCKERFILES} == {"serve", "train", "mlflow"}


@each_file
def test_an_image_starts_from_a_digest_and_runs_as_a_number_that_is_not_root(file: Path) -> None:
    bases = {words[1].partition("=")[0]: words[1].partition("=")[2] for words in steps(file) if words[0] == "ARG"}
    stages = {words[3] for words in steps(file) if words[0] == "FROM" and len(words) > 3}
    for words in steps(file):
        if words[0] == "FROM" and words[1] not in stages:
            assert re.fullmatch(DIGEST, bases[words[1].strip("${}")]), words
    assert [words[1] for words in steps(file) if words[0] == "USER"] == ["10001:10001"]


@pytest.mark.parametrize("target", ["images", "push-image"])
def test_an_image_names_its_commit(target: str, tmp_path: Path) -> None:
    (tmp_path / "docker").write_text('#!/bin/sh\n[ "$1" != build ] || echo "$*" >> "$ASKED"\n')
    (tmp_path / "docker").chmod(0o755)
    place = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "ASKED": str(tmp_path / "asked"), "IMAGE": "x"}
    subprocess.run(["make", target], cwd=ROOT, env=os.environ | place, capture_output=True, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    built = (tmp_path / "asked").read_text().splitlines()
    assert len(built) == (len(DOCKERFILES) if target == "images" else 1)
    assert all(f"--build-arg REVISION={commit.strip()} " in line for line in built)


@each_file
def test_the_commit_is_a_label_below_all_that_costs_time(file: Path) -> None:
    """Otherwise each commit would build everything anew."""
    (place,) = [number for number, words in enumerate(steps(file)) if words[0] == "ARG" and "REVISION" in words[1]]
    after = steps(file)[place + 1 :]
    assert "org.opencontainers.image.revision=${REVISION}" in after[0]
    assert {words[0] for words in after}.isdisjoint({"FROM", "RUN", "COPY"})


def test_a_user_whom_the_training_image_does_not_know_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC asks for it; `docker run --user` gives a number that is not in /etc/passwd."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):  # where getpass looks
        monkeypatch.delenv(name, raising=False)
    for name, value in variables(ROOT / "docker/train.Dockerfile").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delattr(pwd, "getpwuid")
    assert getpass.getuser()


def test_training_writes_to_what_is_mounted_where_its_root_is_read_only() -> None:
    job = next(yaml.safe_load_all((ROOT / "deploy/kubernetes/components/retrain/cronjob.yaml").read_text()))
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    known = variables(ROOT / "docker/train.Dockerfile")
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
        for name in ("HOME", DVC_SITE_CACHE_DIR):
            assert any(Path(known[name]).is_relative_to(mount) for mount in mounts), name


def test_a_cluster_on_this_machine_runs_what_make_images_has_tagged() -> None:
    overlay = yaml.safe_load((ROOT / "deploy/kubernetes/overlays/local/kustomization.yaml").read_text())
    (image,) = overlay["images"]
    assert image["newName"] in {f"docker.io/library/{name}" for name in OURS}  # what Docker's short names stand for
    assert image["newTag"] == "latest"


def test_the_images_have_one_base() -> None:
    assert len({words[1] for file in DOCKERFILES for words in steps(file) if words[1:2] and "PYTHON=" in words[1]}) == 1


@each_file
def test_everything_from_a_package_index_has_a_hash(file: Path) -> None:
    for words in steps(file):
        for command in " ".join(words).split("&&"):
            if " pip install" in command or "/pip install" in command:
                assert "--require-hashes" in command or "--no-deps --no-build-isolation --editable ." in command
            assert "npm install" not in command


@each_file
def test_what_an_image_copies_exists_and_reaches_the_builder(file: Path) -> None:
    let_in = [line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    copied = [
        source.replace("${LOCK}", lock)
        for words in steps(file)
        if words[0] == "COPY" and not words[1].startswith("--from")
        for source in words[1:-1]
        for lock in ("train", "train-gpu")
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source.split("/")[0] in let_in, source


def test_what_must_stay_here_never_reaches_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines[:3]
    assert "monitoring/alertmanager/retrain-token" in lines
    let_in = {line[1:].rstrip("/") for line in lines if line[:1] == "!"}
    assert let_in.isdisjoint({"data", "models", "bundles", "mlruns", ".git", ".env", "docker", ".cache"})


def test_the_gpu_lock_is_the_cpu_lock_and_what_nvidia_adds() -> None:
    cpu, gpu = (
        dict(re.findall(r"^(\S+)==(\S+)", (ROOT / f"requirements/{name}.txt").read_text(), re.M))
        for name in ("train", "train-gpu")
    )
    assert cpu.items() <= gpu.items()
    assert all(name.startswith("nvidia-") for name in gpu.keys() - cpu.keys())
    assert gpu.keys() - cpu.keys()


@each_service
def test_a_service_has_a_pinned_image_and_few_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["image"] in OURS or re.fullmatch(DIGEST, service["image"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    if service["image"] in OURS:
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert service["build"]["dockerfile"] == f"docker/{service['image'].removeprefix('emotion-')}.Dockerfile"


@each_service
def test_what_a_service_mounts_exists_and_what_it_waits_for_can_be_waited_for(name: str) -> None:
    service = SERVICES[name]
    for volume in service.get("volumes", []):
        source, target, *mode = volume.split(":")
        if source.startswith("."):
            assert (ROOT / "docker" / source).exists(), source
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]
        assert target.startswith("/")
    for secret in service.get("secrets", []):
        assert (secret["source"] if isinstance(secret, dict) else secret) in COMPOSE["secrets"]
    for other, how in service.get("depends_on", {}).items():
        image_checks = (
            SERVICES[other]["image"] in OURS
            and "HEALTHCHECK" in (ROOT / SERVICES[other]["build"]["dockerfile"]).read_text()
        )
        assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[other] or image_checks, other


def test_addresses_in_the_pod_are_those_of_the_files_of_prometheus_and_alertmanager() -> None:
    """All of the pod share 127.0.0.1, and no two of them a port."""
    inside = {name for name, service in SERVICES.items() if service.get("network_mode") == "service:pod"}
    jobs = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in jobs for group in job["static_configs"] for target in group["targets"]}
    assert {target.rpartition(":")[0] for target in targets} == {"127.0.0.1"}
    assert inside == {"server", "retrain", "prometheus", "alertmanager", "pushgateway"}
    assert len(targets) == len(inside)
    for port in SERVICES["pod"]["ports"]:
        assert port.removeprefix("127.0.0.1:").split(":")[1] in {target.rpartition(":")[2] for target in targets}
    mounted = {volume.split(":")[1] for name in inside for volume in SERVICES[name].get("volumes", [])}
    assert {"/etc/prometheus", "/etc/alertmanager"} <= mounted
    token = (ROOT / "docker" / COMPOSE["secrets"]["retrain-token"]["file"]).resolve()
    assert token.parent == ROOT / "monitoring/alertmanager"
    assert f"credentials_file: {token.name}\n" in (token.parent / "alertmanager.yml").read_text()


def test_prometheus_keeps_the_examples_that_dashboards_show_wherever_it_runs() -> None:
    def features(text: str) -> set[str]:
        return set(re.findall(r"--enable-feature=[\w,-]+", text))

    wanted = features((ROOT / "monitoring/local.py").read_text())
    assert wanted
    assert features(" ".join(SERVICES["prometheus"]["command"])) == wanted
    assert features((ROOT / "docs/monitoring.md").read_text()) == wanted


@pytest.mark.parametrize("place", ["README.md", "docs/containers.md", "docker/compose.yml"])
def test_whoever_reads_how_to_start_compose_has_read_what_it_wants(place: str) -> None:
    before, found, _ = (ROOT / place).read_text().partition("docker compose --file docker/compose.yml up")
    assert found
    assert "cp docker/.env.example docker/.env " in before
    assert "> monitoring/alertmanager/retrain-token" in before


def test_variables_of_the_services_are_settings_and_those_of_the_example_are_used() -> None:
    known = {f"EMOTION_{name.upper()}" for name in Settings.model_fields}
    known |= {f"RETRAIN_{name.upper()}" for name in RetrainSettings.model_fields}
    dockerfiles = "".join(file.read_text() for file in DOCKERFILES)
    set_here = {key for service in SERVICES.values() for key in service.get("environment", {})}
    set_here |= set(re.findall(r"\b((?:EMOTION|RETRAIN)_[A-Z_]+)=", dockerfiles))
    ours = {name for name in set_here if name.startswith(("EMOTION_", "RETRAIN_"))}
    assert ours
    assert ours <= known
    compose = (ROOT / "docker/compose.yml").read_text()
    wanted = set(re.findall(r"(?<!\$)\$\{([A-Z_0-9]+)", compose))
    example = (ROOT / "docker/.env.example").read_text()
    assert set(re.findall(r"^#?([A-Z_0-9]+)=", example, re.M)) <= wanted
    without_default = set(re.findall(r"\$\{([A-Z_0-9]+):\?", compose))
    assert without_default <= set(re.findall(r"^([A-Z_0-9]+)=", example, re.M))
