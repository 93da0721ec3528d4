"""Bring an image to a cluster, ask it for an answer, and take it back if anything is wrong: `make deploy`.

    python -m deploy.release --overlay deploy/kubernetes/overlays/eks --image ghcr.io/owner/emotion-server@sha256:...

The cluster is that of kubectl's present context. The overlay is applied with this image, without what runs an image
that was not released (`:unreleased`; --train-image names the one that retrains). Once all of the new pods are ready, a
picture goes to one of them. Where that fails, `kubectl rollout undo` brings the former pods back if these are new, the
exit status is 1, and no request was lost on the way as long as the former pods stayed ready.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from emotion_detection.detection import ServerDetector
from emotion_detection.errors import EmotionError, reported

DIGEST = re.compile(r"(?P<name>[^@\s]+)@sha256:[0-9a-f]{64}")
PORT = 8000
CONTAINER, UNRELEASED = "server", ":unreleased"
REVISION = r"jsonpath={.metadata.annotations.deployment\.kubernetes\.io/revision}"
Manifest = dict[str, Any]


class ReleaseError(EmotionError):
    """An image could not be brought to a cluster."""


@dataclass(frozen=True)
class Deployment:
    """What is rolled out."""

    name: str
    namespace: str

    def kubectl(self, *words: str) -> list[str]:
        return ["kubectl", "--namespace", self.namespace, *words]

    def revision(self) -> str:
        """Number of its pod template in its history; empty while it is not there."""
        return run(self.kubectl("get", f"deployment/{self.name}", "--ignore-not-found", "--output", REVISION)).strip()


def release(overlay: Path, image: str, train_image: str | None, seconds: int) -> str:
    """Apply, wait, ask; take it back where that fails.

    Args:
        image: of the server, by digest: a tag could be another image by the time a node pulls it.
        train_image: of what retrains, likewise; none leaves that out.
        seconds: for the pods to become ready.

    Returns:
        Version of the model that answered.

    Raises:
        ReleaseError: it could not be done; the message says whether the former image answers again.
    """
    for given in filter(None, (image, train_image)):
        if not DIGEST.fullmatch(given):
            raise ReleaseError(f"{given}: expected NAME@sha256:DIGEST, as a registry answers to a push")
    manifests = list(yaml.safe_load_all(run(["kubectl", "kustomize", str(overlay)])))
    deployment = set_image(manifests, image)
    before = deployment.revision()
    run(["kubectl", "apply", "-f", "-"], yaml.safe_dump_all(released(manifests, train_image)))
    try:
        run(deployment.kubectl("rollout", "status", f"deployment/{deployment.name}", f"--timeout={seconds}s"))
        with forwarded(deployment) as url:
            return ask(url)
    except EmotionError as error:
        raise ReleaseError(f"{error}\n{take_back(deployment, before, seconds)}") from None


def set_image(manifests: Sequence[Manifest], image: str) -> Deployment:
    """Give the server its image, in place.

    Raises:
        ReleaseError: not exactly one Deployment has a container of its name.
    """
    found = [
        (manifest, container)
        for manifest in manifests
        if manifest["kind"] == "Deployment"
        for container in containers(manifest)
        if container["name"] == CONTAINER
    ]
    if len(found) != 1:
        raise ReleaseError(f"{len(found)} Deployments of the overlay have a container {CONTAINER!r}, expected one")
    manifest, server = found[0]
    server["image"] = image
    about = manifest["metadata"]
    return Deployment(about["name"], about.get("namespace", "default"))


def released(manifests: Sequence[Manifest], train_image: str | None) -> list[Manifest]:
    """Those whose images can be pulled, after `train_image` has taken its place; says what is left out."""
    kept = []
    for manifest in manifests:
        waiting = [each for each in containers(manifest) if each["image"].endswith(UNRELEASED)]
        for container in waiting if train_image else ():
            container["image"] = train_image
        if waiting and not train_image:
            name = f"{manifest['kind']} {manifest['metadata']['name']}"
            print(f"{name} is left as it is: no --train-image for {waiting[0]['image']}", file=sys.stderr)
        else:
            kept.append(manifest)
    return kept


def containers(part: Any) -> Iterator[dict[str, Any]]:
    """All containers in a manifest, whatever their pod template is part of."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        if key in ("containers", "initContainers"):
            yield from value
        else:
            yield from containers(value)


@contextmanager
def forwarded(deployment: Deployment) -> Iterator[str]:
    """A URL of this machine that leads to one of the pods."""
    command = deployment.kubectl("port-forward", f"deployment/{deployment.name}", f":{PORT}")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        if not found:
            raise ReleaseError(f"{' '.join(command)}: {line.strip() or 'said nothing'}")
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        process.terminate()
        process.wait()


def ask(url: str) -> str:
    """Send a picture.

    Returns:
        Version of the model that answered.

    Raises:
        DetectionError, ImageError: no answer.
        ReleaseError: it is none that a model gives.
    """
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "tan").save(picture, "png")
    answer = ServerDetector(url).file(picture.getvalue(), "none")
    total = sum((answer.get("probabilities") or {}).values())
    if abs(total - 1) > 1e-3:
        raise ReleaseError(f"{url}: the probabilities add up to {total:.3f}, expected 1")
    return str(answer["model"].get("version"))


def take_back(deployment: Deployment, before: str, seconds: int) -> str:
    """Go back to the revision `before`, where the pods are not its own; says what came of it."""
    if not before:
        return "not taken back: there was nothing before"
    try:
        if deployment.revision() == before:
            return f"not taken back: the pods are those from before, of revision {before}"
        run(deployment.kubectl("rollout", "undo", f"deployment/{deployment.name}", f"--to-revision={before}"))
        run(deployment.kubectl("rollout", "status", f"deployment/{deployment.name}", f"--timeout={seconds}s"))
    except ReleaseError as error:
        return f"and it could not be taken back: {error}"
    return "taken back: the image before answers again"


def run(command: Sequence[str], given: str | None = None) -> str:
    """Standard output of a command.

    Raises:
        ReleaseError: it is missing or fails.
    """
    print(f"> {' '.join(command)}", file=sys.stderr)
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ReleaseError(f"{command[0]} is not installed") from None
    if done.returncode:
        raise ReleaseError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def main() -> None:
    """Parse and release."""
    parser = argparse.ArgumentParser(prog="python -m deploy.release", description="Bring an image to a cluster.")
    parser.add_argument("--overlay", type=Path, required=True, help="kustomize directory")
    parser.add_argument("--image", required=True, help="of the server, NAME@sha256:DIGEST")
    parser.add_argument("--train-image", help="likewise, of what retrains; left out: that stays as it is")
    parser.add_argument("--seconds", type=int, default=600, help="for all pods to become ready")
    given = parser.parse_args()
    with reported():
        version = release(given.overlay, given.image, given.train_image, given.seconds)
        print(f"{given.image} answers, with model version {version}")


if __name__ == "__main__":
    main()
