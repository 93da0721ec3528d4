"""`emotion compare`: all models beside each other, as the stage `compare` found them."""

from __future__ import annotations

from emotion_detection.cli.output import AsJson, console, print_json


def compare(as_json: AsJson = False) -> None:
    """Print the comparison of all models and where its page is; `dvc repro` makes it."""
    from emotion_detection.artifacts import COMPARISON
    from emotion_detection.comparison.table import read_comparison, table

    found = read_comparison()
    if as_json:
        print_json(found.model_dump())
        return
    console().print(table(found))
    print(f"with pictures: {COMPARISON}/index.html")
