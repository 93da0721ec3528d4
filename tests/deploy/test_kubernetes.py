"""Manifests: valid by Kubernetes' own schemas, and what they say of each other and of the server is true.

Overlays are rendered by kubectl where there is one; it needs no cluster for that.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.release import PORT, set_image
from deploy.rules import SOURCE, WRITTEN, prometheus_rule
from serving.app import create_app
from serving.settings import Settings
from tests.serving.tiny import write_bundle

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy/kubernetes"
VALIDATE = ROOT / ".venv-audit/bin/kubernetes-validate"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
OWN_KINDS = {"Kustomization", "Component", "PrometheusRule", "ServiceMonitor", "ScaledObject", "InferenceService"}
"""Kinds that Kubernetes itself does not know: kustomize's, and those of operators."""
WITH_DEPLOYMENT = [name for name in OVERLAYS if name != "kserve"]

Manifest = dict[str, Any]


def documents(text: str) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(text) if document]


def written() -> Iterator[Manifest]:
    """What stands in the files, before anything is rendered."""
    for file in sorted(MANIFESTS.rglob("*.yaml")):
        yield from (each for each in documents(file.read_text()) if each.get("kind"))


@cache
def rendered(overlay: str) -> list[Manifest]:
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl: overlays cannot be rendered; what they are made of is checked")
    result = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / "overlays" / overlay)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return documents(result.stdout)


def one(manifests: list[Manifest], kind: str, name: str = "emotion-server") -> Manifest:
    (found,) = (each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def pod_specs(manifests: list[Manifest]) -> Iterator[Manifest]:
    for each in manifests:
        if each["kind"] == "Deployment":
            yield each["spec"]["template"]["spec"]
        elif each["kind"] == "CronJob":
            yield each["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        elif each["kind"] == "InferenceService":
            yield each["spec"]["predictor"]


def validate(manifests: list[Manifest], folder: Path) -> None:
    """Strictly, one by one: an empty file would pass."""
    core = [each for each in manifests if each["kind"] not in OWN_KINDS]
    assert len(core) > 1
    files = [folder / f"{number}.yaml" for number, _ in enumerate(core)]
    for file, each in zip(files, core, strict=True):
        file.write_text(yaml.safe_dump(each))
    result = subprocess.run([VALIDATE, "--strict", *files], capture_output=True, text=True, check=False)
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    assert said.count(" passed ") == len(core), said


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(bundle=write_bundle(tmp_path_factory.mktemp("bundle") / "bundle").directory)


@pytest.mark.skipif(not VALIDATE.exists(), reason="no .venv-audit: `make audit-images` builds it")
def test_every_document_is_valid_by_its_schema(tmp_path: Path) -> None:
    validate(list(written()), tmp_path)


@pytest.mark.skipif(not VALIDATE.exists(), reason="no .venv-audit: `make audit-images` builds it")
def test_every_document_of_an_overlay_is_valid_by_its_schema(tmp_path: Path) -> None:
    validate([each for overlay in OVERLAYS for each in rendered(overlay)], tmp_path)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_has_what_it_says(overlay: str) -> None:
    cloud = {"PrometheusRule", "ServiceMonitor", "ScaledObject", "CronJob", "Ingress", "ServiceAccount"}
    base = {"Namespace", "ConfigMap", "Service", "Deployment", "PodDisruptionBudget", "NetworkPolicy"}
    expected = {
        "local": base | {"HorizontalPodAutoscaler"},
        "eks": base | cloud,
        "aks": base | cloud,
        "kserve": {"Namespace", "ConfigMap", "InferenceService", "NetworkPolicy"},
    }
    manifests = rendered(overlay)
    assert {each["kind"] for each in manifests} == expected[overlay]
    assert {each["metadata"].get("namespace", "emotion") for each in manifests} == {"emotion"}


@pytest.mark.parametrize("overlay", WITH_DEPLOYMENT)
def test_names_ports_and_selectors_meet(overlay: str) -> None:
    manifests = rendered(overlay)
    deployment = one(manifests, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert set(ports.values()) == {PORT}
    service = one(manifests, "Service")
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        one(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(
            each["labelSelector"]["matchLabels"]
            for each in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        ),
    ):
        assert selector
        assert selector.items() <= labels.items()
    assert [port["targetPort"] for port in service["spec"]["ports"]] == list(ports)
    for scaler in (each for each in manifests if each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")):
        assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    for monitor in (each for each in manifests if each["kind"] == "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert [each["port"] for each in monitor["spec"]["endpoints"]] == [p["name"] for p in service["spec"]["ports"]]
    for ingress in (each for each in manifests if each["kind"] == "Ingress"):
        backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
        assert backend == {"name": service["metadata"]["name"], "port": {"name": service["spec"]["ports"][0]["name"]}}


def test_at_kserve_the_server_is_told_the_same_and_reached_by_the_same() -> None:
    """It runs as it does without KServe; what the policy selects is the label that KServe gives to its pods."""
    both = [next(pod_specs([each])) for each in written() if each["kind"] in ("Deployment", "InferenceService")]
    (deployed,), (served,) = (spec["containers"] for spec in both)
    assert {each["name"]: each for each in served["env"]} == {each["name"]: each for each in deployed["env"]}
    manifests = rendered("kserve")
    policy, before = (one(each, "NetworkPolicy")["spec"] for each in (manifests, rendered("local")))
    name = one(manifests, "InferenceService")["metadata"]["name"]
    assert policy["podSelector"] == {"matchLabels": {"serving.kserve.io/inferenceservice": name}}
    (rule,) = policy["ingress"]
    assert [port["port"] for port in rule["ports"]] == [port["containerPort"] for port in served["ports"]]
    assert (rule["from"], policy["egress"]) == (before["ingress"][0]["from"], before["egress"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_a_pod_mounts_and_reads_is_there_and_it_has_few_rights(overlay: str) -> None:
    manifests = rendered(overlay)
    maps = {each["metadata"]["name"] for each in manifests if each["kind"] == "ConfigMap"}
    accounts = {each["metadata"]["name"] for each in manifests if each["kind"] == "ServiceAccount"}
    for spec in pod_specs(manifests):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        assert spec.get("serviceAccountName", next(iter(accounts), None)) in {*accounts, None}
        volumes = {volume["name"] for volume in spec["volumes"]}
        mounted = set()
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} <= container["resources"].keys()
            mounted |= {mount["name"] for mount in container["volumeMounts"]}
            assert {each["configMapRef"]["name"] for each in container["envFrom"] if "configMapRef" in each} <= maps
        assert mounted == volumes


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_the_server_is_told_and_asked_is_what_it_knows(overlay: str, settings: Settings) -> None:
    manifests = rendered(overlay)
    known = {f"EMOTION_{name.upper()}" for name in Settings.model_fields}
    server = one(manifests, "InferenceService" if overlay == "kserve" else "Deployment")
    spec = next(pod_specs([server]))
    (container,) = spec["containers"]
    (config,) = (each["data"] for each in manifests if each["metadata"]["name"].startswith("emotion-server-"))
    names = {*config, *(each["name"] for each in container["env"])}
    assert {name for name in names if name.startswith("EMOTION_")} <= known
    paths = create_app(settings).openapi()["paths"].keys()
    probes = [container[name] for name in container if name.endswith("Probe")]
    assert len(probes) >= 2
    assert {probe["httpGet"]["path"] for probe in probes} <= paths
    assert {probe["httpGet"]["path"] for probe in probes} <= set(settings.open_paths)  # kubelets have no key
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert waits >= 5
    assert spec["terminationGracePeriodSeconds"] >= waits + int(config["EMOTION_DRAIN_SECONDS"]) + 5
    secrets = {"EMOTION_API_KEYS_FILE", "EMOTION_FEEDBACK_SECRET"} & names
    assert secrets if overlay != "local" else not secrets
    assert ("EMOTION_ALLOW_ANONYMOUS" in config) == (overlay == "local")


@pytest.mark.parametrize("overlay", WITH_DEPLOYMENT)
def test_make_deploy_finds_the_container_whose_image_it_sets(overlay: str) -> None:
    deployment = set_image(deepcopy(rendered(overlay)), "name@sha256:0")
    assert (deployment.name, deployment.namespace) == ("emotion-server", "emotion")


def test_secrets_are_referred_to_and_never_written() -> None:
    assert all(each["kind"] != "Secret" and "secretGenerator" not in each for each in written())


def test_rules_in_a_cluster_are_those_of_prometheus() -> None:
    assert documents(WRITTEN.read_text()) == [prometheus_rule()], "write it anew: python -m deploy.rules"
    groups = prometheus_rule()["spec"]["groups"]
    assert len(groups) == sum(len(yaml.safe_load(file.read_text())["groups"]) for file in SOURCE.glob("*.yml")) > 0
    assert len({group["name"] for group in groups}) == len(groups)
