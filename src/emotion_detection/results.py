"""One row per model of params.yaml: figures of its report, size, speed, and what the registry says of it."""

from __future__ import annotations

from dataclasses import dataclass

from emotion_detection.artifacts import Interval, Report, bundle_dir, read_record, report_dir
from emotion_detection.bundle import BUNDLE_FILE, ModelBundle, Precision, read_bundle
from emotion_detection.params import Params
from emotion_detection.registry import Registry
from emotion_detection.scoring import milliseconds_in_turns


@dataclass(frozen=True)
class Result:
    """What is known of one model; None: not yet trained, exported or registered."""

    model: str
    architecture: str
    val_accuracy: float | None = None
    test_accuracy: Interval | None = None
    test_macro_f1: Interval | None = None
    test_ece: float | None = None
    parameters: int | None = None
    megabytes: float | None = None
    """Size of the graph that is served."""
    milliseconds: float | None = None
    """Its median time for one face, batch 1, one thread, here and now."""
    precision: Precision | None = None
    """What it computes in."""
    fp32_megabytes: float | None = None
    """The same for model.onnx, which every bundle has; measured in turns with the other."""
    fp32_milliseconds: float | None = None
    version: str | None = None
    aliases: tuple[str, ...] = ()
    verdict: str | None = None
    """Of the gate when it was last asked: promoted, refused or forced."""


def collect_results(params: Params, registry: Registry | None) -> list[Result]:
    """Results of all models, best validation accuracy first.

    Args:
        registry: none to leave out versions and verdicts.

    Raises:
        ArtifactError: a file is there but damaged.
        RegistryError: MLflow stopped answering.
    """
    results = [_result(params, name, registry) for name in params.models]
    return sorted(results, key=lambda result: result.val_accuracy or -1.0, reverse=True)


def _result(params: Params, name: str, registry: Registry | None) -> Result:
    report_file = report_dir(name) / "metrics.json"
    known: dict[str, object] = {}
    if report_file.exists():
        report = read_record(report_file, Report)
        known |= {"val_accuracy": report.val.accuracy.value, "test_accuracy": report.test.accuracy}
        known |= {"test_macro_f1": report.test.macro_f1, "test_ece": report.test.ece}
    if (bundle_dir(name) / BUNDLE_FILE).exists():
        bundle = read_bundle(bundle_dir(name))
        known |= {"parameters": bundle.info.parameters, "precision": bundle.precision(), **_costs(bundle)}
        version = registry.find(bundle.info.digest()) if registry else None
        if version:
            known |= {"version": version.version, "aliases": version.aliases, "verdict": version.tags.get("verdict")}
    return Result(model=name, architecture=params.models[name].architecture, **known)  # type: ignore[arg-type]


def _costs(bundle: ModelBundle) -> dict[str, float]:
    graphs: dict[str, Precision] = {"": bundle.precision(), "fp32_": "fp32"}
    distinct = list(dict.fromkeys(graphs.values()))
    times = dict(zip(distinct, milliseconds_in_turns([(bundle, one) for one in distinct], 1), strict=True))
    costs = {f"{prefix}milliseconds": times[precision] for prefix, precision in graphs.items()}
    sizes = {f"{prefix}megabytes": bundle.graph_path(each).stat().st_size / 1e6 for prefix, each in graphs.items()}
    return costs | sizes
