"""A stand-in for GitHub that speaks the documented part of its API, on a socket of its own.

https://docs.github.com/en/rest/repos/repos#create-a-repository-dispatch-event
https://docs.github.com/en/rest/actions/workflow-runs#list-workflow-runs-for-a-repository
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from tests.clone import free_port

TOKEN = "ghp_" + "x" * 36
REPOSITORY = "team/faces"
Answer = Callable[[], Response]


def says(status: int, **headers: str) -> Answer:
    """An answer other than the wished-for one."""
    return lambda: JSONResponse({"message": "no"}, status, headers)


@dataclass
class GitHub:
    """What has been asked, and what is answered."""

    port: int = field(default_factory=free_port)
    failures: list[Answer] = field(default_factory=list)
    """The next dispatches end so, before they have any effect."""
    hang: float = 0.0
    """Seconds between the effect of the next dispatch and its answer."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """What has started a workflow."""
    asked: list[float] = field(default_factory=list)
    """When somebody tried to dispatch, by time.monotonic."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def incidents(self) -> list[str]:
        return [event["client_payload"]["incident"] for event in self.events]

    def alerts(self, name: str) -> int:
        """Number of events because of an alert."""
        return sum(name in [alert["name"] for alert in event["client_payload"]["alerts"]] for event in self.events)

    def up(self) -> None:
        app = FastAPI()
        app.add_api_route("/repos/team/faces/dispatches", self._dispatch, methods=["POST"])
        app.add_api_route("/repos/team/faces/actions/runs", self._runs, methods=["GET"])
        self._server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_config=None))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def down(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()

    async def _dispatch(self, request: Request) -> Response:
        event = await request.json()  # first: who is killed once it has asked has sent all of it
        self.asked.append(time.monotonic())
        if self.failures:
            return self.failures.pop(0)()
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return says(401)()
        if not _is_documented(event) or request.headers.get("accept") != "application/vnd.github+json":
            return says(422)()
        self.events.append(event)
        hang, self.hang = self.hang, 0.0
        for _ in range(int(hang / 0.05)):
            if await request.is_disconnected():
                break
            time.sleep(0.05)
        return Response(status_code=204)

    async def _runs(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return says(401)()
        assert request.query_params["event"] == "repository_dispatch"
        assert request.query_params["created"].startswith(">=20")
        runs = [{"display_title": f"retrain {incident}"} for incident in self.incidents()]
        return JSONResponse({"total_count": len(runs), "workflow_runs": runs})


def _is_documented(event: dict[str, Any]) -> bool:
    payload = event.get("client_payload", {})
    known = set(event) <= {"event_type", "client_payload"}
    return known and 0 < len(event["event_type"]) <= 100 and isinstance(payload, dict) and len(payload) <= 10
