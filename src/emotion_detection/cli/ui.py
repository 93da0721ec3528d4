"""`emotion ui`: MLflow's pages on the project's own records."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer


def ui(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Serve MLflow's pages; a shared server (MLFLOW_TRACKING_URI) has its own, whose address is printed."""
    from emotion_detection.mlflow_store import artifact_location, shown, tracking_uri

    uri = tracking_uri()
    if uri.startswith("http"):
        print(f"MLFLOW_TRACKING_URI is a server with pages of its own: {shown(uri)}")
        return
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        host,
        "--port",
        str(port),
        "--backend-store-uri",
        uri,
    ]
    if files := artifact_location(uri):
        command += ["--artifacts-destination", files]
    # Eight helper processes for features that are not used here.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    print(f"MLflow's pages: http://{host}:{port} (Ctrl-C ends)", flush=True)
    os.execve(sys.executable, command, environment)  # noqa: S606
