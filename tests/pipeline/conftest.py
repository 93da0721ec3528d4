"""The whole pipeline, run once for all the tests that look at what it left."""

from __future__ import annotations

import pytest

from tests.clone import Clone, clone_of_this_checkout


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the whole pipeline has run once and been committed."""
    clone = clone_of_this_checkout(tmp_path_factory.mktemp("whole") / "clone")
    clone.run("emotion", "run", "--jobs", "2", "--no-promote")
    clone.commit("first run")
    return clone
