"""Stage 0, run every time: what files named in params.yaml hold now, so that DVC notices a change.

`data.source`, `data.votes`, `data.feedback` -> data/source.json; `validation.suspicious` -> data/suspicious.json;
`models.NAME.weights` and `training.distillation.teachers` -> data/weights.json.

python -m pipeline.fingerprint
"""

from __future__ import annotations

from emotion_detection.artifacts import SOURCE, SUSPICIOUS, WEIGHTS
from emotion_detection.data.fingerprint import update_file_fingerprint, update_fingerprint
from emotion_detection.errors import reported
from emotion_detection.params import load_params
from emotion_detection.pushing import measured
from emotion_detection.weights import update_weights


def main() -> None:
    params = load_params()
    found = update_fingerprint(SOURCE, params.data, params.seed)
    print(f"{found.source}: {found.kind}, {found.files:,} files, {found.size:,} bytes, {found.digest}")
    if found.votes:
        print(f"{found.votes.file}: votes, {found.votes.digest}")
    if found.feedback:
        print(f"{found.feedback.file}: feedback, {found.feedback.digest}")
    suspicious = update_file_fingerprint(SUSPICIOUS, params.validation.suspicious.file, "validation.suspicious.file")
    if suspicious.file:
        print(f"{suspicious.file}: suspicious labels, {suspicious.digest}")
    for name, weights in update_weights(WEIGHTS, params).root.items():
        if weights.sha256:
            print(f"models.{name}: {', '.join([weights.weights, *weights.teachers])}, {weights.sha256}")


if __name__ == "__main__":
    with reported(), measured("fingerprint"):
        main()
