"""`emotion promote`, `challenge`, `rollback`, `gate` and `trace`: which version serves, and why it may."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from emotion_detection.cli.output import AsJson, console, print_json, print_table
from emotion_detection.errors import EmotionError, PromotionRefused
from emotion_detection.pushing import push_verdict

if TYPE_CHECKING:
    from emotion_detection.promotion import Decision
    from emotion_detection.registry import VersionInfo
    from emotion_detection.shadow_evidence import Demand

MIN_SCORED = 1000
"""Faces without which a share of disagreement says little: 0.2 is then known to 2.5 points."""
Which = Annotated[
    str | None,
    typer.Argument(
        metavar="[VERSION|MODEL]", help="A number, an alias, or a model of params.yaml; by default the best."
    ),
]

Servers = Annotated[
    list[str] | None,
    typer.Option("--shadow-url", metavar="URL", help="A server that tried it beside the champion; may be repeated."),
]
MinScored = Annotated[
    int | None, typer.Option(min=0, help="Faces that both must have judged there.", show_default=str(MIN_SCORED))
]
MaxDisagreement = Annotated[
    float | None, typer.Option(min=0, max=1, help="Share of them that they may judge otherwise.")
]


def promote(  # noqa: PLR0913, PLR0917  one for each option
    which: Which = None,
    force: Annotated[bool, typer.Option("--force", help="Whatever the gate says; needs --reason.")] = False,
    reason: Annotated[str | None, typer.Option(help="Kept with the version.")] = None,
    shadow_url: Servers = None,
    min_scored: MinScored = None,
    max_disagreement: MaxDisagreement = None,
    as_json: AsJson = False,
) -> None:
    """Make a version champion if it passes the gate. Refused: the champion stays, exit status 1.

    With --shadow-url it must also have judged enough faces unseen, beside the champion.
    """
    demand = _demand(shadow_url, min_scored, max_disagreement)
    if force != bool(reason and reason.strip()):
        raise EmotionError("--force and --reason TEXT go together: say why the gate is overruled")
    decision = decide(which, reason, demand)
    if as_json:
        print_json(decision_record(decision))
    else:
        show_decision(decision)
    if not decision.promoted:
        raise PromotionRefused(refusal(decision))


def challenge(
    which: Which = None,
    stop: Annotated[bool, typer.Option("--stop", help="Have nothing tried any more.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have servers try a version beside the champion, as far as their settings say: --shadow-share, --canary-share."""
    from emotion_detection.params import load_params
    from emotion_detection.promotion import find_candidate
    from emotion_detection.registry import Registry

    params = load_params()
    registry = Registry(params.registry.model)
    version = registry.withdraw() if stop else find_candidate(params, registry, which)
    if not stop and version is not None:
        if version.is_champion:
            raise EmotionError(f"{title(version)} is champion already; a challenger is another version")
        registry.challenge(version)
    if as_json:
        print_json({"challenger": None if stop or version is None else version.version})
    elif stop:
        print(f"{title(version)} challenges no more" if version else "there was no challenger")
    elif version is not None:
        print(
            f"challenger: {title(version)}; `emotion promote {version.version} --shadow-url URL` asks what it has shown"
        )


def gate(
    which: Which = None,
    shadow_url: Servers = None,
    min_scored: MinScored = None,
    max_disagreement: MaxDisagreement = None,
    as_json: AsJson = False,
) -> None:
    """Say what the gate would say of a version; changes nothing. Exit status 1 if it would refuse."""
    from emotion_detection.gate import table
    from emotion_detection.params import load_params
    from emotion_detection.promotion import find_candidate, judge_version
    from emotion_detection.registry import Registry

    demand = _demand(shadow_url, min_scored, max_disagreement)
    params = load_params()
    registry = Registry(params.registry.model)
    verdict = judge_version(params, registry, find_candidate(params, registry, which), demand)
    if as_json:
        print_json(verdict.model_dump())
    else:
        console().print(table(verdict))
    if not verdict.passed:
        raise PromotionRefused(f"the gate would refuse {verdict.challenger}: {verdict.failures()}")


def rollback(as_json: AsJson = False) -> None:
    """Make the previous champion champion again; repeated, it goes further back."""
    from emotion_detection.params import load_params
    from emotion_detection.registry import Registry

    registry = Registry(load_params().registry.model)
    former, now = registry.champion(), registry.rollback()
    if as_json:
        print_json({"champion": now.version, "former": former.version if former else None})
    else:
        print(f"champion: {title(now)}" + (f"; before: {title(former)}" if former else ""))


def trace(
    which: Annotated[
        str, typer.Argument(metavar="[VERSION|ALIAS|PREDICTION]", help="The `prediction_id` of an answer will do.")
    ] = "champion",
    as_json: AsJson = False,
) -> None:
    """Follow a version, or an answer, back to run, commit, dvc.lock and data; say which links hold from here."""
    from emotion_detection.params import load_params
    from emotion_detection.prediction_ids import parse_id
    from emotion_detection.registry import Registry
    from emotion_detection.trace import trace as follow
    from emotion_detection.trace import version_of

    registry = Registry(load_params().registry.model)
    prediction = parse_id(which)
    version = version_of(registry, prediction) if prediction else registry.resolve(which)
    links = follow(registry, version)
    if as_json:
        about = {"name": version.name, "version": version.version, "model": version.model, "aliases": version.aliases}
        when = {"answered_at": prediction.answered_at.isoformat()} if prediction else {}
        print_json(about | when | {"links": [asdict(link) for link in links]})
        return
    if prediction:
        print(f"answered {prediction.answered_at:%Y-%m-%d %H:%M:%S} UTC by {title(version)}")
    rows = [
        (link.name, link.value or "", "[green]yes[/]" if link.ok else "[bold red]no[/]", link.detail) for link in links
    ]
    print_table(f"{version.name} {title(version)}", ("link", "recorded", "can be followed", "how"), rows)


def decide(which: str | None, reason: str | None = None, demand: Demand | None = None) -> Decision:
    """Find the version that is meant, and promote it through the gate."""
    from emotion_detection.params import load_params
    from emotion_detection.promotion import find_candidate, promote
    from emotion_detection.registry import Registry

    params = load_params()
    registry = Registry(params.registry.model)
    decision = promote(params, registry, find_candidate(params, registry, which), reason, demand)
    push_verdict(decision.version, decision.outcome, decision.verdict)
    return decision


def show_decision(decision: Decision) -> None:
    """The gate's table, then one line that says what became of it."""
    from emotion_detection.gate import table

    if decision.verdict:
        console().print(table(decision.verdict))
    outcomes = {
        "promoted": "is champion now",
        "forced": "is champion now, by force",
        "champion": "is champion already",
        "refused": "was refused; the champion stays",
    }
    print(f"{title(decision.version)} {outcomes[decision.outcome]}")


def refusal(decision: Decision) -> str:
    failures = decision.verdict.failures() if decision.verdict else ""
    return (
        f"the gate refused {title(decision.version)}: {failures}. Train a better one, change `gate` in params.yaml, "
        "or `emotion promote --force --reason TEXT`"
    )


def _demand(servers: list[str] | None, min_scored: int | None, most: float | None) -> Demand | None:
    if not servers:
        if min_scored is not None or most is not None:
            raise EmotionError("--min-scored and --max-disagreement are about a server: name it with --shadow-url URL")
        return None
    from emotion_detection.shadow_evidence import Demand

    return Demand(tuple(servers), MIN_SCORED if min_scored is None else min_scored, most)


def decision_record(decision: Decision) -> dict[str, object]:
    return {
        "version": decision.version.version,
        "model": decision.version.model,
        "outcome": decision.outcome,
        "verdict": decision.verdict.model_dump() if decision.verdict else None,
    }


def title(version: VersionInfo) -> str:
    return f"version {version.version} ({version.model})"
