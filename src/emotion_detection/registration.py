"""Bring a trained and exported model into MLflow, from DVC's files alone: its run, complete, and a version.

    registration = register_model(load_params(), "lenet")

A run recorded during training is found again and what it lacks is added; where there is none (MLflow could not
be reached, or the registry is new) it is made from the files. Repeating it changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from emotion_detection.artifacts import (
    DATA_PICTURES,
    SHARDS,
    DatasetInfo,
    History,
    Registration,
    Report,
    RunInfo,
    SplitMetrics,
    bundle_dir,
    model_dir,
    read_record,
    report_dir,
)
from emotion_detection.bundle import BundleInfo, file_sha256, read_bundle
from emotion_detection.errors import ArtifactError
from emotion_detection.mlflow_store import connect, explained, if_any, shown, tracking_uri
from emotion_detection.params import Params
from emotion_detection.registry import Registry
from emotion_detection.tracking import (
    SUMMARY_FILE,
    describe,
    ensure_experiment,
    find_runs,
    lineage_tags,
    log_points,
    model_tags,
    set_tags,
)

HISTORY_TAG = "history_sha256"  # tells trainings apart that have the same training_id, such as after a change of code


def register_model(params: Params, model: str) -> Registration:
    """Complete the run of a model and register its bundle.

    Args:
        model: name of the entry in `models` of params.yaml; its files are read from the current directory.

    Raises:
        ArtifactError: a file is missing or does not belong to the others.
        ParamsError: there is no such model.
        RegistryError: MLflow cannot be reached.
    """
    params.model(model)
    bundle = read_bundle(bundle_dir(model))
    report = read_record(report_dir(model) / "metrics.json", Report)
    uri = tracking_uri()
    run_id = complete_run(uri, params, model, bundle.info, report)
    version = Registry(params.registry.model, uri).register(bundle, run_id, model_card(bundle.info, report))
    return Registration(
        model=model,
        name=version.name,
        version=version.version,
        run_id=version.run_id or run_id,
        tracking_uri=shown(uri),
        bundle_sha256=bundle.info.digest(),
    )


def complete_run(uri: str, params: Params, model: str, bundle: BundleInfo, report: Report) -> str:
    """Find the run of a training, or make it, and add what it lacks: parameters, curves, figures, lineage.

    Returns:
        The run's id.

    Raises:
        ArtifactError, RegistryError: as `register_model`.
    """
    history = read_record(model_dir(model) / "history.json", History)
    client = connect(uri)
    with explained(uri):
        run = _find_run(client, uri, params, model)
        run_id = str(run.info.run_id)
        if not run.inputs or not run.inputs.dataset_inputs:
            describe(client, run_id, params, model, _dataset(bundle))
        # What the training noted of its commit stays; the bundle's lineage is that of the export.
        tags = {**lineage_tags(bundle.lineage), **model_tags(params, model), **run.data.tags}
        set_tags(client, run_id, {key: value for key, value in tags.items() if run.data.tags.get(key) != value})
        log_points(client, run_id, _curves(history) | _figures(bundle, report))
        _complete_artifacts(client, run_id, model, bundle)
        if run.info.status != "FINISHED":
            client.set_terminated(run_id, "FINISHED")
    return run_id


def model_card(bundle: BundleInfo, report: Report) -> str:
    """Markdown that MLflow's page of the version shows."""
    test, lineage = report.test, bundle.lineage
    rows = [f"| {name} | {test.precision[name]:.3f} | {recall:.3f} |" for name, recall in test.recall.items()]
    commit = f"{lineage.commit or 'none'}{' with uncommitted changes' if lineage.dirty else ''}"
    return "\n".join(
        [
            f"**{bundle.model}** ({bundle.architecture}, {bundle.parameters:,} parameters): {', '.join(bundle.labels)} "
            f"from {bundle.image_size} x {bundle.image_size} x {bundle.channels} faces.",
            "",
            f"Test accuracy {test.accuracy.value:.3f} ({test.accuracy.low:.3f} to {test.accuracy.high:.3f}), macro-F1 "
            f"{test.macro_f1.value:.3f}, calibration error {test.ece:.3f}, on {test.images} images; "
            f"validation accuracy {report.val.accuracy.value:.3f}.",
            "",
            "| class | precision | recall |",
            "|---|---|---|",
            *rows,
            "",
            f"Commit `{commit}`, data `{lineage.data_hash}`, bundle `{bundle.digest()}`.",
        ]
    )


def _find_run(client: MlflowClient, uri: str, params: Params, model: str) -> Run:
    recorded = read_record(model_dir(model) / "run.json", RunInfo)
    identity = {"training_id": recorded.training_id, HISTORY_TAG: file_sha256(model_dir(model) / "history.json")}
    experiment = ensure_experiment(client, uri, params.registry.experiment)
    if run_id := recorded.run_id:
        run = if_any(lambda: client.get_run(run_id))
        if run is not None and run.info.lifecycle_stage == "active":
            set_tags(client, run_id, identity)
            return client.get_run(run_id)
    found = find_runs(client, params.registry.experiment, **identity)
    return found[0] if found else client.create_run(experiment.experiment_id, run_name=model, tags=identity)


def _dataset(bundle: BundleInfo) -> DatasetInfo:
    dataset = read_record(SHARDS / "dataset.json", DatasetInfo)
    if dataset.data_hash != bundle.lineage.data_hash:
        raise ArtifactError(
            f"{SHARDS / 'dataset.json'}: holds data {dataset.data_hash[:12]}, but the bundle was made from "
            f"{bundle.lineage.data_hash[:12]}; run `dvc repro`"
        )
    return dataset


def _complete_artifacts(client: MlflowClient, run_id: str, model: str, bundle: BundleInfo) -> None:
    client.log_artifacts(run_id, str(report_dir(model)), "report")
    if DATA_PICTURES.is_dir():
        client.log_artifacts(run_id, str(DATA_PICTURES), "data")
    if SUMMARY_FILE not in {file.path for file in client.list_artifacts(run_id)}:
        client.log_text(run_id, _summary(model, bundle.architecture), SUMMARY_FILE)


def _summary(model: str, architecture: str) -> str:
    from emotion_detection.models import load_model  # noqa: PLC0415  takes seconds, and is seldom needed

    lines: list[str] = []
    trained = load_model(architecture, model_dir(model) / "model.keras")
    trained.summary(line_length=100, print_fn=lambda line, **_: lines.append(line))
    return "\n".join(lines)


def _curves(history: History) -> dict[str, dict[int, float]]:
    return {name: dict(enumerate(values)) for name, values in history.metrics.items()}


def _figures(bundle: BundleInfo, report: Report) -> dict[str, dict[int, float]]:
    figures = {
        **dict(_split_figures("val", report.val)),
        **dict(_split_figures("test", report.test)),
        **dict(_breakdown_figures(report)),
        "temperature": report.temperature,
        "parameters": float(bundle.parameters),
        "onnx_parity": bundle.metrics.get("parity"),
    }
    return {name: {0: value} for name, value in figures.items() if value is not None}


def _split_figures(split: str, metrics: SplitMetrics) -> Iterator[tuple[str, float]]:
    for name, value in metrics.model_dump().items():
        if isinstance(value, Mapping):
            for part, number in _parts(value).items():
                yield f"{split}/{name}{part}", float(number)
        else:
            yield f"{split}/{name}", float(value)


def _breakdown_figures(report: Report) -> Iterator[tuple[str, float]]:
    for view, accuracy in report.views.items():
        yield f"views/{view}", accuracy.test.value
    if report.robustness:
        yield "corrupted/mean", report.robustness.mean.value
        for name, value in report.robustness.by_corruption().items():
            yield f"corrupted/{name}", value


def _parts(value: Mapping[str, Any]) -> dict[str, Any]:
    if set(value) == {"value", "low", "high"}:  # an interval
        return {"": value["value"], "_low": value["low"], "_high": value["high"]}
    return {"/" + re.sub(r"[^\w\-. :/]", "_", label): number for label, number in value.items()}
