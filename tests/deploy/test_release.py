"""An image to a cluster and back. The server that is asked is real; the cluster is a script that plays kubectl."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.release import containers, released, run, set_image
from tests.serving.processes import ROOT, environment, running
from tests.serving.tiny import wait_until, write_bundle

IMAGE = f"registry.example/emotion-server@sha256:{'a' * 64}"
SLIM = ROOT / ".venv-serve/bin/python"
PYTHON = SLIM if SLIM.exists() else sys.executable  # `make deploy` has the server's environment
TRAIN_IMAGE = f"registry.example/emotion-train@sha256:{'b' * 64}"
MANIFESTS = [
    {"kind": "Service", "metadata": {"name": "emotion-server", "namespace": "emotion"}},
    {
        "kind": "Deployment",
        "metadata": {"name": "emotion-server", "namespace": "emotion"},
        "spec": {"template": {"spec": {"containers": [{"name": "server", "image": "emotion-server:dev"}]}}},
    },
]
KUBECTL = """\
#!/bin/sh
echo "$*" >> "$CLUSTER/asked"
case "$*" in
  kustomize*) cat "$CLUSTER/manifests.yaml" ;;
  *"get deployment/emotion-server --ignore-not-found"*) cat "$CLUSTER/revision" ;;
  apply*) cat > "$CLUSTER/applied.yaml"; [ -n "$SAME" ] || echo 8 > "$CLUSTER/revision" ;;
  *"rollout status"*) [ -e "$CLUSTER/undone" ] || [ -z "$STUCK" ] || { echo "timed out" >&2; exit 1; } ;;
  *"rollout undo"*) [ -z "$GONE" ] || { echo "unable to find revision" >&2; exit 1; }; touch "$CLUSTER/undone" ;;
  *port-forward*) echo "Forwarding from 127.0.0.1:$PORT -> 8000"; exec sleep 60 ;;
esac
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server listens that answers."""
    directory = tmp_path_factory.mktemp("server")
    with running(directory, "--bundle", str(write_bundle(directory / "bundle").directory)) as server:
        wait_until(server.is_ready, seconds=60)
        yield str(server.port)


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    (tmp_path / "manifests.yaml").write_text(yaml.safe_dump_all(MANIFESTS))
    (tmp_path / "revision").write_text("7")
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    return tmp_path


def release(cluster: Path, port: str, image: str = IMAGE, **state: str) -> subprocess.CompletedProcess[str]:
    path = f"{cluster}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [PYTHON, "-m", "deploy.release", "--overlay", "overlays/eks", "--image", image, "--seconds", "5"],
        cwd=ROOT,
        env=environment(PATH=path, CLUSTER=str(cluster), PORT=port, **({"STUCK": "", "SAME": "", "GONE": ""} | state)),
        capture_output=True,
        text=True,
        check=False,
    )


def undone(cluster: Path) -> bool:
    return "rollout undo deployment/emotion-server --to-revision=7\n" in (cluster / "asked").read_text()


def test_the_image_is_applied_by_digest_waited_for_and_asked(cluster: Path, port: str) -> None:
    result = release(cluster, port)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{IMAGE} answers, with model version ")
    applied = list(yaml.safe_load_all((cluster / "applied.yaml").read_text()))
    assert applied[1]["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
    assert applied[0] == MANIFESTS[0]
    asked = (cluster / "asked").read_text()
    assert "--namespace emotion rollout status deployment/emotion-server --timeout=5s" in asked
    assert not undone(cluster)


def test_pods_that_do_not_become_ready_are_taken_back(cluster: Path, port: str) -> None:
    result = release(cluster, port, STUCK="1")
    assert result.returncode == 1
    assert "timed out" in result.stderr
    assert result.stderr.endswith("taken back: the image before answers again\n")
    assert undone(cluster)
    assert (cluster / "asked").read_text().count("rollout status") == 2  # the one before is waited for as well


def test_a_server_that_does_not_answer_is_taken_back(cluster: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        result = release(cluster, str(nobody.getsockname()[1]))
    assert result.returncode == 1
    assert "/detect: no answer" in result.stderr
    assert undone(cluster)


def test_pods_that_are_still_those_from_before_stay(cluster: Path, port: str) -> None:
    """An undo would go on to what was there before them."""
    result = release(cluster, port, STUCK="1", SAME="1")
    assert result.returncode == 1
    assert result.stderr.endswith("not taken back: the pods are those from before, of revision 7\n")
    assert "rollout undo" not in (cluster / "asked").read_text()


def test_where_nothing_was_before_it_says_so(cluster: Path, port: str) -> None:
    (cluster / "revision").write_text("")
    result = release(cluster, port, STUCK="1")
    assert result.returncode == 1
    assert result.stderr.endswith("not taken back: there was nothing before\n")
    assert "rollout undo" not in (cluster / "asked").read_text()


def test_what_cannot_be_taken_back_is_told(cluster: Path, port: str) -> None:
    result = release(cluster, port, STUCK="1", GONE="1")
    assert result.returncode == 1
    assert "it could not be taken back" in result.stderr
    assert "unable to find revision" in result.stderr


@pytest.mark.parametrize("image", ["registry.example/emotion-server:latest", "emotion-server", f"x@sha256:{'a' * 63}"])
def test_a_tag_is_refused_before_anything_is_done(cluster: Path, port: str, image: str) -> None:
    result = release(cluster, port, image)
    assert result.returncode == 1
    assert "expected NAME@sha256:DIGEST" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (cluster / "asked").exists()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", ["eks", "aks"])
def test_the_overlays_that_the_workflow_names_have_one_server(overlay: str) -> None:
    manifests = list(yaml.safe_load_all(run(["kubectl", "kustomize", f"{ROOT}/deploy/kubernetes/overlays/{overlay}"])))
    deployment = set_image(manifests, IMAGE)
    assert (deployment.name, deployment.namespace) == ("emotion-server", "emotion")
    without = released(manifests, None)
    assert {manifest["kind"] for manifest in manifests} - {manifest["kind"] for manifest in without} == {"CronJob"}
    assert {each["image"] for manifest in without for each in containers(manifest)} == {IMAGE}
    everything = released(manifests, TRAIN_IMAGE)
    assert {each["image"] for manifest in everything for each in containers(manifest)} == {IMAGE, TRAIN_IMAGE}
