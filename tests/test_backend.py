"""Keras and TensorFlow are imported without what they would bring for features that nobody uses here."""

from __future__ import annotations

import subprocess
import sys


def test_keras_brings_no_library_that_is_not_used_and_takes_none_away() -> None:
    code = """
import sys, pandas
import emotion_detection.backend
assert sys.modules["pandas"] is pandas
assert not {"matplotlib", "sklearn"} & sys.modules.keys(), "Keras has imported it"
import matplotlib, sklearn
"""
    subprocess.run([sys.executable, "-c", code], check=True)
