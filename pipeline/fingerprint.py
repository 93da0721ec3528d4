"""Stage 0, run every time: what `data.source` holds -> data/source.json.

python -m pipeline.fingerprint
"""

from __future__ import annotations

from emotion_detection.artifacts import SOURCE
from emotion_detection.data.fingerprint import update_fingerprint
from emotion_detection.errors import reported
from emotion_detection.params import load_params


def main() -> None:
    params = load_params()
    found = update_fingerprint(SOURCE, params.data, params.seed)
    print(f"{found.source}: {found.kind}, {found.files:,} files, {found.size:,} bytes, {found.digest}")


if __name__ == "__main__":
    with reported():
        main()
