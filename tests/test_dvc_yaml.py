"""Each stage of dvc.yaml depends on exactly the modules that its entry point imports, directly or not.

Too few, and an edit leaves stale results; too many, and an edit of one architecture retrains another. Modules
that only read parameters, move files, report or record are exempt: they cannot change a result.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from emotion_detection.training import DECIDING

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src"
REPORTING = (
    "artifacts",
    "backend",
    "display",
    "engine",
    "errors",
    "lineage",
    "params",
    "pushing",
    "tracking",
    "weights",
)
PLUMBING = {f"emotion_detection.{name}" for name in REPORTING} | {"emotion_detection.data.fingerprint"}
TEACHERS = {f"emotion_detection.{name}" for name in ("bundle", "scoring")}
"""What reads and asks the teachers of a training."""
ARCHITECTURE = "emotion_detection.models.${item.architecture}"
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def module_file(name: str) -> Path | None:
    path = PACKAGE / name.replace(".", "/")
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.exists()), None)


def imports_of(file: Path) -> set[str]:
    """Our own modules that a file imports, anywhere in it, other than for types alone."""
    tree = ast.parse(file.read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("emotion_detection") and module_file(name)}


def imports_of_architectures() -> set[str]:
    """What any architecture may use to build itself; a model that is only loaded runs none of it."""
    files = (PACKAGE / "emotion_detection/models").glob("*.py")
    return set().union(*(imports_of(file) for file in files if file.name != "__init__.py"))


def deciding_modules(entry: Path) -> set[Path]:
    seen: set[str] = set()
    waiting, exempt = imports_of(entry), PLUMBING
    if entry.stem == "train":
        waiting, exempt = waiting | imports_of_architectures(), PLUMBING | TEACHERS
    while waiting:
        name = waiting.pop()
        if name not in seen and name not in exempt:
            seen.add(name)
            file = module_file(name)
            assert file is not None
            waiting |= imports_of(file)
    files = {file for name in seen if (file := module_file(name))}
    return {file for file in files if file.read_text().strip() and file != PACKAGE / "emotion_detection/__init__.py"}


def declared(stage: dict[str, object]) -> tuple[set[Path], bool]:
    stage = stage.get("do", stage)  # type: ignore[assignment]
    deps = stage.get("deps", [])
    files: set[Path] = set()
    for dep in deps:  # type: ignore[attr-defined]
        path = ROOT / dep
        if dep.startswith("src/") and "${" not in dep:
            files |= {file for file in path.rglob("*.py") if file.read_text().strip()} if path.is_dir() else {path}
    return files, any("${item.architecture}" in dep for dep in deps)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [name for name in STAGES if name != "fingerprint"])
def test_code_dependencies_are_what_the_stage_runs(name: str) -> None:
    files, _ = declared(STAGES[name])
    assert {str(file.relative_to(ROOT)) for file in files} == {
        str(file.relative_to(ROOT)) for file in deciding_modules(ROOT / "pipeline" / f"{name}.py")
    }


@pytest.mark.parametrize("name", [name for name in STAGES if name != "fingerprint"])
def test_each_stage_depends_on_its_entry_point(name: str) -> None:
    stage = STAGES[name].get("do", STAGES[name])
    assert f"pipeline/{name}.py" in stage["deps"]
    assert stage["cmd"].startswith(f"python -m pipeline.{name}")


def test_stages_that_run_a_model_depend_on_its_architecture_alone() -> None:
    for name in ("train", "evaluate", "export"):
        assert declared(STAGES[name])[1], name


def test_a_checkpoint_belongs_to_the_code_that_the_stage_depends_on() -> None:
    files, _ = declared(STAGES["train"])
    assert files == {PACKAGE / "emotion_detection" / f"{module}.py" for module in DECIDING}


@pytest.mark.parametrize("name", [name for name in STAGES if name != "fingerprint"])
def test_a_stage_that_reads_the_limit_of_pixels_depends_on_it(name: str) -> None:
    entry, stage = ROOT / "pipeline" / f"{name}.py", STAGES[name].get("do", STAGES[name])
    is_read = any("data.max_pixels" in file.read_text() for file in (entry, *deciding_modules(entry)))
    assert ("data.max_pixels" in stage["params"]) == is_read


def test_every_pipeline_module_is_a_stage() -> None:
    modules = {file.stem for file in (ROOT / "pipeline").glob("*.py")} - {"__init__"}
    assert modules == set(STAGES)
