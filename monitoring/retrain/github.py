"""Target: GitHub's `repository_dispatch`, for workflows with `on: {repository_dispatch: {types: [retrain]}}`.

https://docs.github.com/en/rest/repos/repos#create-a-repository-dispatch-event: POST /repos/OWNER/NAME/dispatches,
`event_type` of at most 100 characters, `client_payload` with at most 10 keys at the top, 204. The token needs
"Contents: write" for it, and "Actions: read" so that it can be found out whether an event has arrived of which GitHub
did not say so in time: a workflow shows the incident in its name, and it is looked for there:

    run-name: retrain ${{ github.event.client_payload.incident }}
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import requests
from requests.auth import AuthBase

from monitoring.retrain.errors import TargetError, Unclear
from monitoring.retrain.order import Ended, Order
from monitoring.retrain.settings import Settings

LONGEST_PAUSE = 3600.0
ALERTS = 20
"""Named in the event, at most."""
_REPAIR = {
    401: ("unauthorized", "the token is unknown or has expired; put a new one into RETRAIN_GITHUB_TOKEN_FILE"),
    403: ("forbidden", 'the token may not do this; it needs "Contents: write", and "Actions: read" to look for runs'),
    404: ("not-found", "there is no such repository, or the token must not see it; see RETRAIN_GITHUB_REPOSITORY"),
    422: ("refused", "GitHub does not take this event; see RETRAIN_EVENT_TYPE"),
}


class GitHub:
    """A repository whose workflow retrains."""

    running = False
    name = "github"

    def __init__(self, settings: Settings) -> None:
        self._url = f"{settings.github_url.rstrip('/')}/repos/{settings.github_repository}"
        self._event_type, self._token = settings.event_type, settings.github_secret
        self._patience, self._repair = settings.timeout_seconds, settings.repair_seconds

    def attach(self, running: Sequence[str], ended: Ended) -> None:
        """How a workflow ends is seen at GitHub."""

    def describe(self) -> str:
        return f"POST {self._url}/dispatches, event_type {self._event_type}"

    def send(self, order: Order) -> None:
        """Start the workflow.

        Raises:
            TargetError: GitHub did not take the event; Unclear: nobody knows.
        """
        event = {"event_type": self._event_type, "client_payload": payload(order)}
        answer = self._ask("POST", "/dispatches", json=event)
        if answer.status_code != HTTPStatus.NO_CONTENT:
            raise refusal(answer, self._repair)

    def arrived(self, incident: str, since: float, /) -> bool:
        """Whether a workflow has started for an incident.

        Args:
            since: seconds since 1970.

        Raises:
            TargetError: GitHub does not say.
        """
        start = datetime.fromtimestamp(since - 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # clocks differ
        query = {"event": "repository_dispatch", "created": f">={start}", "per_page": "100"}
        answer = self._ask("GET", "/actions/runs", params=query)
        if answer.status_code != HTTPStatus.OK:
            raise refusal(answer, self._repair)
        try:
            return any(incident in run["display_title"] for run in answer.json()["workflow_runs"])
        except (ValueError, KeyError, TypeError):
            raise TargetError("server", f"{answer.url}: is no list of workflow runs; see RETRAIN_GITHUB_URL") from None

    def close(self) -> None:
        """Nothing is kept open."""

    def _ask(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        try:
            return requests.request(
                method,
                self._url + path,
                auth=_Bearer(self._token.read()),
                headers=headers | {"User-Agent": "emotion-retrain"},
                timeout=self._patience,
                allow_redirects=False,  # a POST that is led elsewhere would become a GET
                **options,
            )
        except requests.ConnectTimeout:
            raise TargetError("network", f"{self._url}: cannot be reached in {self._patience} s") from None
        except requests.RequestException as error:
            kind = TargetError if _never_left(error) else Unclear
            raise kind("network", f"{self._url}: no answer ({type(error).__name__}); see network and proxy") from None


class _Bearer(AuthBase):
    """As `auth`, since requests would let a netrc file overrule a header."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def payload(order: Order) -> dict[str, Any]:
    """What the workflow is told, `github.event.client_payload`; at most 10 keys."""
    return {
        "incident": order.incident,
        "started_at": order.alerts[0].starts_at.isoformat(),
        "alerts": [
            {"name": alert.name[:200], "fingerprint": alert.fingerprint, "summary": _short(alert.annotations)}
            for alert in order.alerts[:ALERTS]
        ],
        "group": order.group[:500],
        "source": order.source[:500],
    }


def refusal(answer: requests.Response, repair: float) -> TargetError:
    """What an answer other than the wished-for one means, and how long to leave GitHub alone.

    Args:
        repair: seconds, where it does not say itself.
    """
    status, said = answer.status_code, f"{answer.request.method} {answer.url}: status {answer.status_code}"
    limited = status == 429 or (status == 403 and _says_when(answer))
    if limited:
        pause = _pause(answer, repair)
        return TargetError("rate-limited", f"{said}: too many requests; asked again in {pause:.0f} s", pause)
    if status >= 500:
        return Unclear("server", f"{said}: GitHub has a problem; see https://www.githubstatus.com", _pause(answer, 0))
    reason, advice = _REPAIR.get(status, ("refused", "expected 204; see RETRAIN_GITHUB_URL and _REPOSITORY"))
    return TargetError(reason, f"{said}: {advice}", repair)


def _never_left(error: requests.RequestException) -> bool:
    """Whether the request surely did not arrive: no connection came about, or it cannot be sent at all."""
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    names = ("NewConnectionError", "NameResolutionError", "SSLError", "ProxyError", "ConnectTimeoutError")
    return isinstance(error, ValueError) or type(cause).__name__ in names


def _says_when(answer: requests.Response) -> bool:
    return "Retry-After" in answer.headers or answer.headers.get("X-RateLimit-Remaining") == "0"


def _pause(answer: requests.Response, otherwise: float) -> float:
    """Seconds, from Retry-After (a number or a date) or X-RateLimit-Reset (seconds since 1970)."""
    after, reset = answer.headers.get("Retry-After", ""), answer.headers.get("X-RateLimit-Reset", "")
    try:
        if after:
            seconds = float(after) if after.isdecimal() else parsedate_to_datetime(after).timestamp() - time.time()
        else:
            seconds = float(reset) - time.time() if reset.isdecimal() else otherwise
    except ValueError:
        seconds = otherwise
    return min(max(seconds, 0.0), LONGEST_PAUSE)


def _short(annotations: dict[str, str]) -> str:
    return annotations.get("summary", "")[:300]
