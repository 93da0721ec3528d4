"""What a challenger has shown beside the champion, read from the servers that tried it unseen (serving/shadow.py).

    demand = Demand(("http://127.0.0.1:8000",), min_scored=1000, max_disagreement=0.2)
    demand.checks(champion, challenger)        -> rows of the gate's table

A server counts from its start, for each pair of versions: what it has seen before a restart is gone. Several servers
are added up.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.samples import Sample

from emotion_detection.detection import KEY_VARIABLE
from emotion_detection.errors import DetectionError
from emotion_detection.gate import Check
from emotion_detection.versions import DIGEST_TAG, VersionInfo

SECONDS = 30
SCORED, DISAGREEMENT = "shadow: faces judged", "shadow: disagreement"


@dataclass(frozen=True)
class Evidence:
    """What one server, or several, have seen of two versions."""

    faces: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By the champion's answer and the challenger's."""
    hints: tuple[str, ...] = ()
    """Why there may be so few."""

    @property
    def scored(self) -> int:
        """Faces that both have judged."""
        return self.faces.total()

    @property
    def apart(self) -> Counter[tuple[str, str]]:
        """Those that they judged otherwise."""
        return Counter({pair: count for pair, count in self.faces.items() if pair[0] != pair[1] and count})

    @property
    def disagreement(self) -> float | None:
        """Their share, 0 to 1; none without faces."""
        return self.apart.total() / self.scored if self.scored else None

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(self.faces + other.faces, self.hints + other.hints)


@dataclass(frozen=True)
class Demand:
    """What a version must have shown before it becomes champion."""

    servers: tuple[str, ...]
    """URLs, without `/metrics`."""
    min_scored: int
    max_disagreement: float | None
    """None: it is shown, and may be anything."""

    def checks(self, champion: VersionInfo, challenger: VersionInfo) -> tuple[Check, ...]:
        """Hold what the servers have seen against what is demanded.

        Raises:
            DetectionError: a server does not answer, or follows another registry.
        """
        found = sum((read_evidence(url, champion, challenger) for url in self.servers), Evidence())
        return self._enough(found, champion), self._agrees(found)

    def _enough(self, found: Evidence, champion: VersionInfo) -> Check:
        enough = found.scored >= self.min_scored
        detail = f"beside version {champion.version} in {', '.join(self.servers)}"
        if not enough:
            why = "; ".join(found.hints) or "wait for more traffic, or raise EMOTION_SHADOW_SHARE"
            detail = f"{detail}: {why}"
        return Check(
            name=SCORED,
            value=found.scored,
            threshold=self.min_scored,
            bound="at least",
            passed=enough,
            detail=detail,
        )

    def _agrees(self, found: Evidence) -> Check:
        most, share = self.max_disagreement, found.disagreement
        detail = ", ".join(
            f"{one} → {other} {count / found.scored:.1%}" for (one, other), count in found.apart.most_common(3)
        )
        return Check(
            name=DISAGREEMENT,
            value=share,
            threshold=most,
            bound="none" if most is None else "at most",
            passed=most is None or (share is not None and share <= most),
            detail=f"most often {detail}" if detail else "champion → challenger",
        )


def read_evidence(url: str, champion: VersionInfo, challenger: VersionInfo) -> Evidence:
    """What one server has seen of two versions since it was started.

    Args:
        url: of the server. Its API key, where it wants one, is in EMOTION_SERVER_KEY.

    Raises:
        DetectionError: it does not answer, or follows another registry.
    """
    address = f"{url.rstrip('/')}/metrics"
    samples = _samples(address)
    for name, version in (("emotion_model_info", champion), ("emotion_challenger_info", challenger)):
        _check_digest(address, samples.get(name, ()), version)
    versions = champion.version, challenger.version
    faces: Counter[tuple[str, str]] = Counter()
    for sample in samples.get("emotion_shadow_predictions_total", ()):
        labels = sample.labels
        if (labels["champion_version"], labels["challenger_version"]) == versions:
            faces[labels["champion_emotion"], labels["challenger_emotion"]] += int(sample.value)
    return Evidence(faces, tuple(_hints(url, samples, champion, challenger)))


def _hints(url: str, samples: dict[str, list[Sample]], champion: VersionInfo, challenger: VersionInfo) -> Iterable[str]:
    if not any(sample.value for sample in samples.get("emotion_shadow_share", ())):
        yield f"{url} shows a challenger nothing; start it with EMOTION_SHADOW_SHARE"
        return
    for name, what, wanted, remedy in (
        ("emotion_model_info", "answers with", champion, "it has not followed the registry yet"),
        ("emotion_challenger_info", "tries", challenger, f"`emotion challenge {challenger.version}`"),
    ):
        shown = [sample.labels["version"] for sample in samples.get(name, ()) if sample.value]
        if wanted.version not in shown:
            yield f"{url} {what} {f'version {shown[0]}' if shown else 'no version'}: {remedy}"


def _check_digest(address: str, infos: Iterable[Sample], version: VersionInfo) -> None:
    registered = version.tags.get(DIGEST_TAG)
    for sample in infos:
        if sample.value and sample.labels["version"] == version.version:
            found = sample.labels["bundle_sha256"]
            if found != registered:
                raise DetectionError(
                    f"{address}: its version {version.version} is bundle {found[:12]}, here it is "
                    f"{str(registered)[:12]}: the server follows another registry; set MLFLOW_TRACKING_URI to it"
                )


def _samples(address: str) -> dict[str, list[Sample]]:
    """All samples by name."""
    found: dict[str, list[Sample]] = {}
    try:
        for family in parse(_fetch(address)):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample)
    except (ValueError, KeyError):
        raise DetectionError(f"{address}: is no page of metrics; --shadow-url is that of the server") from None
    return found


def _fetch(address: str) -> str:
    import requests  # noqa: PLC0415

    key = os.environ.get(KEY_VARIABLE)
    try:
        answer = requests.get(address, headers={"X-API-Key": key} if key else {}, timeout=SECONDS)
    except OSError as error:  # the base of all that requests raises
        raise DetectionError(f"{address}: no answer ({type(error).__name__}); does `emotion serve` run?") from None
    if answer.status_code == 401:
        raise DetectionError(f"{address}: wants an API key; put it into {KEY_VARIABLE}")
    if answer.status_code != 200:
        raise DetectionError(f"{address}: status {answer.status_code}")
    return answer.text
