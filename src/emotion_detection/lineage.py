"""Where a model comes from: git commit, dvc.lock, data. Read by export, shown and followed by `emotion trace`.

dvc.lock holds an entry for every stage of every model, so the hash of the whole file says little about one
model. `lock_hash` covers just the entries upstream of its bundle: it stays the same while other models change,
and can be found again in any later commit.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator

from ruamel.yaml import YAML

from emotion_detection.artifacts import DVC_LOCK
from emotion_detection.bundle import Lineage

UPSTREAM = ("ingest", "validate", "shards", "train@{model}", "evaluate@{model}")


def current_lineage(model: str, data_hash: str, training_id: str) -> Lineage:
    """Lineage of a bundle that is being made now, in the current directory.

    Args:
        model: name of the entry in `models` of params.yaml.
        data_hash: `DatasetInfo.data_hash`.
        training_id: `RunInfo.training_id`.
    """
    lock_text = DVC_LOCK.read_text(encoding="utf-8") if DVC_LOCK.exists() else ""
    return Lineage(
        commit=_git("rev-parse", "HEAD"),
        # dvc.lock is rewritten by every stage: it would make each retrained model look like one of unknown code.
        dirty=bool(_git("status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude){DVC_LOCK}")),
        dvc_lock=lock_hash(lock_text, model),
        data_hash=data_hash,
        training_id=training_id,
    )


def lock_hash(lock_text: str, model: str) -> str | None:
    """SHA-256 of the dvc.lock entries of all stages upstream of a model's bundle; none if one is missing."""
    stages = (YAML(typ="safe").load(lock_text) or {}).get("stages", {})
    names = [name.format(model=model) for name in UPSTREAM]
    if not all(name in stages for name in names):
        return None
    entries = {name: stages[name] for name in names}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def commit_exists(commit: str) -> bool:
    """Whether this repository has the commit."""
    return _git("cat-file", "-e", f"{commit}^{{commit}}") is not None


def file_at(revision: str, path: str) -> str | None:
    """A text file as of a git revision; none where this repository has no such revision, or it no such file."""
    return _git("show", "--end-of-options", f"{revision}:{path}")


def lock_history() -> Iterator[tuple[str, str]]:
    """Every committed version of dvc.lock, newest first, as (commit, text)."""
    for commit in (_git("log", "--format=%H", "--", str(DVC_LOCK)) or "").split():
        text = _git("show", f"{commit}:{DVC_LOCK}")
        if text is not None:
            yield commit, text


def _git(*arguments: str) -> str | None:
    """Output of a git command; none where it fails, there is no repository, or no git."""
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
