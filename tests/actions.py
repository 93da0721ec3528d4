"""GitHub's workflows on this machine: conditions and expressions evaluated, `run` steps run as a runner runs them.

    runner = Runner(tmp_path, repository, variables={"DVC_REMOTE_URL": ...})
    runner.run("retrain.yml", event("repository_dispatch", client_payload={"incident": "i1"}))

Steps come from the YAML files. An action is replaced by what it does (checkout, caches, artifacts); one that is not
known here must not be reached. `gh` is a script that writes down what it is asked.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.clone import Clone

WHOLE = re.compile(r"\s*\$\{\{(.*?)\}\}\s*", re.S)
TOKEN = re.compile(r"\s*(?:('(?:[^']|'')*')|(-?\d+)|(&&|\|\||==|!=|!|\(|\)|,)|([A-Za-z_][\w-]*(?:\.[\w*-]+)*))")
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
GH = '#!/bin/sh\nprintf "%s\\n" "$*" >> "$GH_LOG"\n'


def load(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


@dataclass
class Expression:
    """GitHub's expressions, as far as our workflows use them: https://docs.github.com/actions/reference/expressions"""

    contexts: Mapping[str, Any]
    directory: Path
    """For hashFiles."""
    tokens: list[str] = field(default_factory=list)

    def text(self, value: Any) -> Any:
        """A value of a workflow with its expressions replaced; one that is a single expression keeps its type."""
        if not isinstance(value, str):
            return value
        if whole := WHOLE.fullmatch(value):
            return self.value(whole[1])
        return re.sub(r"\$\{\{(.*?)\}\}", lambda found: shown(self.value(found[1])), value, flags=re.S)

    def true(self, condition: Any) -> bool:
        """What an `if` means; where it has no braces it is an expression all the same."""
        if isinstance(condition, str) and "${{" not in condition:
            return bool(self.value(condition))
        return bool(self.text(condition))

    def value(self, expression: str) -> Any:
        self.tokens, place = [], 0
        while place < len(expression.rstrip()):
            found = TOKEN.match(expression, place)
            assert found, f"not an expression: {expression!r} at {place}"
            self.tokens.append(found[0].strip())
            place = found.end()
        result = self._or()
        assert not self.tokens, f"{expression!r}: what does {self.tokens} mean?"
        return result

    def _or(self) -> Any:
        left = self._and()
        while self._next("||"):
            right = self._and()
            left = left or right
        return left

    def _and(self) -> Any:
        left = self._equal()
        while self._next("&&"):
            right = self._equal()
            left = left and right
        return left

    def _equal(self) -> Any:
        left = self._unary()
        if self._next("=="):
            return alike(left, self._unary())
        return not alike(left, self._unary()) if self._next("!=") else left

    def _unary(self) -> Any:
        if self._next("!"):
            return not self._unary()
        if self._next("("):
            inner = self._or()
            assert self._next(")")
            return inner
        return self._leaf(self.tokens.pop(0))

    def _leaf(self, token: str) -> Any:
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if self._next("("):
            return self._call(token)
        if token in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[token]
        return int(token) if token.lstrip("-").isdecimal() else self._lookup(token)

    def _call(self, name: str) -> Any:
        arguments = []
        while not self._next(")"):
            arguments.append(self._or())
            self._next(",")
        if name == "hashFiles":
            files = [file for each in arguments for file in sorted(self.directory.glob(each)) if file.is_file()]
            return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest() if files else ""
        assert name in ("always", "success", "failure"), f"{name}() is not known here"
        return name == "always" or (name == "failure") == self.contexts["failed"]

    def _lookup(self, path: str) -> Any:
        first, *rest = path.split(".")
        assert first in self.contexts, f"{path}: there is no context {first}"
        found = self.contexts[first]
        for key in rest:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def _next(self, token: str) -> bool:
        if self.tokens[:1] == [token]:
            self.tokens.pop(0)
            return True
        return False


def alike(left: Any, right: Any) -> bool:
    """GitHub's ==: what is not there equals the empty string; letters' case does not count."""
    return shown(left).lower() == shown(right).lower()


def shown(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def event(name: str, **payload: Any) -> dict[str, Any]:
    """The context `github` of an event on main; `inputs` among the payload are those of a dispatch by hand."""
    return {
        "event_name": name,
        "event": payload,
        "repository": "owner/name",
        "ref": "refs/heads/main",
        "run_id": f"{time.time_ns()}",
        "token": "token",
    }


@dataclass
class Job:
    """What became of a job."""

    ran: list[str]
    """Its `run` steps."""
    log: str
    failed: bool
    outputs: dict[str, str]
    directory: Path
    summary: str


@dataclass
class Runner:
    """GitHub, for one repository."""

    directory: Path
    repository: Path
    """What is checked out: a git repository."""
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    gh: list[str] = field(default_factory=list)
    """What was asked of `gh`."""

    def run(self, workflow: str, github: dict[str, Any]) -> dict[str, Job]:
        """Run the jobs whose conditions hold, in their order; each on a machine of its own."""
        plan = load(self.repository / ".github/workflows" / workflow)
        jobs: dict[str, Job] = {}
        self.directory.mkdir(parents=True, exist_ok=True)
        for name, job in plan["jobs"].items():
            needs = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
            if any(need not in jobs or jobs[need].failed for need in needs):
                continue
            contexts = {
                "github": github,
                "inputs": self._inputs(plan, github),
                "vars": self.variables,
                "secrets": self.secrets,
                "needs": {need: {"outputs": jobs[need].outputs} for need in needs},
                "steps": {},
                "failed": False,
            }
            machine = Machine(self, self.directory / f"{github['run_id']}-{name}", contexts)
            if machine.expressions.true(job.get("if", True)):
                jobs[name] = machine.run(job)
        return jobs

    @staticmethod
    def _inputs(plan: Mapping[str, Any], github: Mapping[str, Any]) -> dict[str, Any]:
        if github["event_name"] != "workflow_dispatch":
            return {}
        declared = plan["on"]["workflow_dispatch"]["inputs"]
        given = github["event"].get("inputs", {})
        assert set(given) <= set(declared)
        return {name: given.get(name, about.get("default")) for name, about in declared.items()}


class Machine:
    """The machine of one job."""

    def __init__(self, runner: Runner, directory: Path, contexts: dict[str, Any]) -> None:
        self.runner, self.contexts, self.path = runner, contexts, directory / "work"
        self.path.mkdir(parents=True)
        self.files = {name: directory / name for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GH_LOG")}
        for file in self.files.values():
            file.touch()
        (directory / "bin").mkdir()
        (directory / "bin/gh").write_text(GH)
        (directory / "bin/gh").chmod(0o755)
        self.bin = directory / "bin"
        self.ran: list[str] = []
        self.log = ""

    @property
    def expressions(self) -> Expression:
        return Expression(self.contexts, self.path)

    def run(self, job: Mapping[str, Any]) -> Job:
        environment = {key: shown(self.expressions.text(value)) for key, value in job.get("env", {}).items()}
        self._steps(job["steps"], environment)
        self.runner.gh += self.files["GH_LOG"].read_text().splitlines()
        outputs = {key: shown(self.expressions.text(value)) for key, value in job.get("outputs", {}).items()}
        summary = self.files["GITHUB_STEP_SUMMARY"].read_text()
        return Job(self.ran, self.log, self.contexts["failed"], outputs, self.path, summary)

    def _steps(self, steps: list[Mapping[str, Any]], environment: Mapping[str, str]) -> None:
        for step in steps:
            condition = shown(step.get("if", True))
            if self.contexts["failed"] and "always()" not in condition:
                continue
            if not self.expressions.true(step.get("if", True)):
                continue
            if "uses" in step:
                self._use(step["uses"].partition("@")[0], step.get("with", {}), environment)
            else:
                self._shell(step, environment)

    def _shell(self, step: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        own = {key: shown(self.expressions.text(value)) for key, value in step.get("env", {}).items()}
        assert "${{" not in step["run"]  # texts from outside come through the environment
        place = {name: str(file) for name, file in self.files.items()}
        place |= {"GITHUB_REPOSITORY": "owner/name", "PATH": f"{self.bin}:{self.path}/.venv/bin:{os.environ['PATH']}"}
        clean = {key: value for key, value in Clone(self.path).environment().items() if key not in own}
        result = subprocess.run(
            [*BASH, "-c", step["run"]],
            cwd=self.path,
            env=clean | environment | own | place,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.ran.append(step["run"])
        self.log += result.stdout
        lenient = self.expressions.text(step.get("continue-on-error", False))
        self.contexts["failed"] = self.contexts["failed"] or bool(result.returncode and not lenient)
        outputs = dict(line.split("=", 1) for line in self.files["GITHUB_OUTPUT"].read_text().splitlines())
        self.contexts["steps"] |= {step["id"]: {"outputs": outputs}} if "id" in step else {}

    def _use(self, action: str, given: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        options = {key: shown(self.expressions.text(value)) for key, value in given.items()}
        if action.startswith("./"):
            return self._composite(self.path / action / "action.yml", options, environment)
        actions: dict[str, Callable[[dict[str, str]], None]] = {
            "actions/checkout": self._checkout,
            "actions/setup-python": lambda _: None,
            "actions/cache/restore": self._restore,
            "actions/cache/save": self._save,
            "actions/upload-artifact": lambda with_: self._copy(self.path / with_["path"], self._artifact(with_)),
            "actions/download-artifact": lambda with_: self._copy(self._artifact(with_), self.path),
        }
        assert action in actions, f"{action} must not be reached here"
        actions[action](options)
        return None

    def _composite(self, file: Path, options: Mapping[str, str], environment: Mapping[str, str]) -> None:
        action, outer = load(file), self.contexts["inputs"]
        self.contexts["inputs"] = {
            name: options.get(name, about.get("default")) for name, about in action["inputs"].items()
        }
        self._steps(action["runs"]["steps"], environment)
        self.contexts["inputs"] = outer

    def _checkout(self, options: Mapping[str, str]) -> None:
        """A clone, and an environment in it: this one, up to date, so that make installs nothing."""
        assert options["persist-credentials"] == "false"
        subprocess.run(["git", "clone", "-q", self.runner.repository, self.path], check=True)
        (self.path / ".venv/bin").mkdir(parents=True)
        here = Path(sys.prefix)
        for program in [*(here / "bin").iterdir(), here / "lib", here / "pyvenv.cfg"]:
            (self.path / ".venv" / program.relative_to(here)).symlink_to(program)
        for file in [*(self.path / "requirements").iterdir(), self.path / "pyproject.toml"]:
            os.utime(file, (0, 0))
        for name in (".train", ".dev"):
            (self.path / ".venv" / name).touch()

    def _restore(self, options: Mapping[str, str]) -> None:
        saved = sorted(self._caches.iterdir(), key=lambda cache: cache.stat().st_mtime_ns, reverse=True)
        for prefix in [options["key"], *options["restore-keys"].split()]:
            if found := next((cache for cache in saved if cache.name.startswith(prefix)), None):
                return self._copy(found, self.path)
        return None

    def _save(self, options: Mapping[str, str]) -> None:
        for path in options["path"].split():
            if (self.path / path).exists():
                self._copy(self.path / path, self._caches / options["key"] / path)

    @property
    def _caches(self) -> Path:
        (self.runner.directory / "caches").mkdir(exist_ok=True)
        return self.runner.directory / "caches"

    def _artifact(self, options: Mapping[str, str]) -> Path:
        return self.runner.directory / "artifacts" / self.contexts["github"]["run_id"] / options["name"]

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True)


def triggered(workflow: Mapping[str, Any], name: str, changed: list[str]) -> bool:
    """Whether an event with these changed files starts a workflow."""
    if name not in workflow["on"]:
        return False
    paths = (workflow["on"][name] or {}).get("paths")
    return paths is None or any(fnmatch.fnmatch(file, pattern) for file in changed for pattern in paths)


def stages(log: str) -> list[str]:
    """What `dvc repro` ran, in order, without the stage that runs every time."""
    return [stage for stage in re.findall(r"^Running stage '([^']+)'", log, re.M) if stage != "fingerprint"]


def only(jobs: Mapping[str, Job], name: str) -> Job:
    """A job that must have succeeded."""
    job = jobs[name]
    if job.failed:
        pytest.fail(f"{name} failed:\n{job.log}")
    return job
