"""Stage: bundles/ and reports/ of all models -> comparison/, one page over them.

python -m pipeline.compare   # prints the table
"""

import sys

from rich.console import Console

from emotion_detection.artifacts import COMPARISON
from emotion_detection.comparison.compare import compare
from emotion_detection.comparison.publishing import publish
from emotion_detection.comparison.table import table
from emotion_detection.errors import RegistryError, reported
from emotion_detection.params import load_params
from emotion_detection.pushing import measured


def main() -> None:
    params = load_params()
    Console(width=160).print(table(compare(params)))
    print(f"with pictures: {COMPARISON}/index.html")
    try:
        publish(params)
    except RegistryError as error:  # MLflow is a witness, never a condition
        print(f"warning: {error}. `emotion run` publishes the comparison later.", file=sys.stderr)


if __name__ == "__main__":
    with reported(), measured("compare"):
        main()
