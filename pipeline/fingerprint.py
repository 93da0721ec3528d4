"""Stage 0, run every time: what `data.source`, `data.votes` and `models.NAME.weights` hold now.

Writes data/source.json and data/weights.json.

python -m pipeline.fingerprint
"""

from __future__ import annotations

from emotion_detection.artifacts import SOURCE, WEIGHTS
from emotion_detection.data.fingerprint import update_fingerprint
from emotion_detection.errors import reported
from emotion_detection.params import load_params
from emotion_detection.weights import update_weights


def main() -> None:
    params = load_params()
    found = update_fingerprint(SOURCE, params.data, params.seed)
    print(f"{found.source}: {found.kind}, {found.files:,} files, {found.size:,} bytes, {found.digest}")
    if found.votes:
        print(f"{found.votes.file}: votes, {found.votes.digest}")
    for name, weights in update_weights(WEIGHTS, params.models).root.items():
        if weights.sha256:
            print(f"models.{name}.weights: {weights.weights}, {weights.sha256}")


if __name__ == "__main__":
    with reported():
        main()
