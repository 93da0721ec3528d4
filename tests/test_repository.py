"""Rules of the house that no other tool checks."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("pipeline", "serving", "monitoring", "deploy")


def tracked(*patterns: str) -> list[Path]:
    output = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    return [ROOT / line for line in output.split("\n") if line and (ROOT / line).is_file()]


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ["src/emotion_detection", *ROOMS])
def test_imports_point_inward(room: str) -> None:
    own = Path(room).parts[0]
    forbidden = {name for name in (*ROOMS, "tests", "benchmarks") if name != own}
    offenders = {
        str(file.relative_to(ROOT)): found
        for file in (ROOT / room).rglob("*.py")
        if (found := imported(file) & forbidden)
    }
    assert offenders == {}


def test_relative_imports_are_not_used() -> None:
    for file in [*(ROOT / "src").rglob("*.py"), *(f for room in ROOMS for f in (ROOT / room).rglob("*.py"))]:
        assert not re.search(r"^\s*from \.", file.read_text(), re.M), file


@pytest.mark.parametrize(
    "lock", tracked("requirements/*.txt", "benchmarks/serving/peers/*.txt"), ids=lambda lock: lock.name
)
def test_locks_pin_every_package_with_hashes_and_name_no_host(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^(-i|--(extra-)?index-url|--find-links)", text, re.M)
    packages = re.findall(r"^[A-Za-z0-9][^\s=]*==", text, re.M)
    requirements = re.findall(r"^\S.*", text, re.M)
    assert len(packages) == len(requirements) > 0
    for block in re.split(r"^(?=\S)", text, flags=re.M):
        assert not block.strip() or "--hash=sha256:" in block, block.split("\n")[0]


def test_the_server_runs_the_versions_that_training_ran() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^(\S+)==(\S+)", (ROOT / "requirements" / f"{name}.txt").read_text(), re.M))

    train, serve, dev = pins("train"), pins("serve"), pins("dev")
    assert all(train.get(name) == version for name, version in serve.items())
    assert all(dev.get(name) == version for name, version in train.items())


def test_make_run_hands_on_every_key_so_that_a_typo_is_refused() -> None:
    words = ["trainig.epochs=3", "tuning.pruner=none", "seed=2", "data.source=a=b.zip"]
    outer = {"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"}  # of the make that runs the tests
    environment = {key: value for key, value in os.environ.items() if key not in outer}
    command = ["make", "--dry-run", "run", "PYTHON=python3", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    called = done.stdout.splitlines()[-1].split()
    assert called[:2] == ["emotion", "run"]
    assert sorted(called[2:]) == sorted(f"'{word}'" for word in words)


def test_no_large_file_is_tracked() -> None:
    assert [str(file) for file in tracked() if file.stat().st_size > 1 << 20] == []


def test_the_map_of_the_house_is_complete() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    described = {"sources", "models", "cli", "params"}  # each as a folder
    modules = [file for file in tracked("src/emotion_detection/*.py") if file.name != "__init__.py"]
    assert [file.name for file in modules if file.parent.name not in described and file.name not in text] == []


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", tracked("*.md"), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"
