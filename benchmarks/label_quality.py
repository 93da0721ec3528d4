"""Are suspicious labels wrong? Crowd votes judge what `emotion labels` found.

    emotion labels lenet --folds 2 --epochs 5
    python -m benchmarks.label_quality lenet

Prints, for the most suspicious images of the training split and for all, how many labels are not what most voters saw.
Needs a data set that was made with `data.votes`.
"""

from __future__ import annotations

import argparse
import sys

import pandas as pd
import pyarrow.parquet as pq

from emotion_detection.artifacts import DATASET
from emotion_detection.label_quality.report import labels_dir
from emotion_detection.labels import plain

SHARES = (0.02, 0.05, 0.1, 0.2, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label_quality")
    parser.add_argument("model", help="as `emotion labels` had it")
    scores = labels_dir(parser.parse_args().model, "train") / "scores.parquet"
    if not scores.exists():
        sys.exit(f"{scores}: missing; run `emotion labels` first")
    found = pd.read_parquet(scores).merge(majorities(), on="path")
    if found.empty:
        sys.exit(f"{DATASET}: has no votes; set data.votes and run `dvc repro`")
    print("share    images  not what most saw  suggestion is")
    for share in SHARES:
        worst = found.nlargest(round(share * len(found)), "score")
        wrong, right = worst["label"].map(plain) != worst["seen"], worst["suggested"].map(plain) == worst["seen"]
        print(f"{share:5.0%} {len(worst):9,} {wrong.mean():18.1%} {right.mean():14.1%}")


def majorities() -> pd.DataFrame:
    """What most voters saw in each image that has votes: columns path, seen."""
    rows = pq.read_table(DATASET, columns=["path", "votes"]).to_pylist()
    seen = [(row["path"], max(row["votes"], key=lambda vote: vote[1])[0]) for row in rows if row["votes"]]
    return pd.DataFrame(seen, columns=["path", "seen"])


if __name__ == "__main__":
    main()
