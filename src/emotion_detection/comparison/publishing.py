"""The comparison in MLflow: a run named `comparison` beside those of the models, its page among the artifacts.

Its description is the Markdown table, which MLflow's page of the run shows. One run for each comparison: publishing
the same again changes nothing, and what others have published to a shared server stays.
"""

from __future__ import annotations

from emotion_detection.artifacts import COMPARISON
from emotion_detection.bundle import file_sha256
from emotion_detection.comparison.table import METRICS_FILE
from emotion_detection.errors import ArtifactError
from emotion_detection.mlflow_store import connect, explained, tracking_uri
from emotion_detection.params import Params
from emotion_detection.tracking import ensure_experiment, find_runs

DIGEST_TAG = "comparison_sha256"
DESCRIPTION_TAG = "mlflow.note.content"


def publish(params: Params) -> str:
    """Bring comparison/ into MLflow, unless it is there.

    Returns:
        The run's id.

    Raises:
        ArtifactError: the stage `compare` has not run.
        RegistryError: MLflow cannot be reached.
    """
    metrics, uri = COMPARISON / METRICS_FILE, tracking_uri()
    if not metrics.exists():
        raise ArtifactError(f"{metrics}: missing; `dvc repro` makes it, `dvc pull` fetches it")
    digest, client = file_sha256(metrics), connect(uri)
    with explained(uri):
        experiment = ensure_experiment(client, uri, params.registry.experiment)
        found = find_runs(client, params.registry.experiment, **{DIGEST_TAG: digest})
        if any(run.info.status == "FINISHED" for run in found):
            return str(found[0].info.run_id)
        tags = {DIGEST_TAG: digest, DESCRIPTION_TAG: (COMPARISON / "comparison.md").read_text(encoding="utf-8")}
        run_id = str(client.create_run(experiment.experiment_id, run_name="comparison", tags=tags).info.run_id)
        client.log_artifacts(run_id, str(COMPARISON), "comparison")
        client.set_terminated(run_id, "FINISHED")
        return run_id
