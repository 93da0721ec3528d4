"""Names of emotions: which output of a model that others trained stands for which label of the data set.

output_order(["sadness", "HAPPY"], ["happy", "sad"])      [1, 0]
"""

from __future__ import annotations

from collections.abc import Sequence

from emotion_detection.errors import ParamsError

ALIASES = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}
"""Names under which people publish an emotion -> the name it has in FER2013."""


def output_order(theirs: Sequence[str], ours: Sequence[str]) -> list[int]:
    """For each of our labels the index of the output that means the same, by name; case and `ALIASES` aside.

    Raises:
        ParamsError: a label of either side has no counterpart, or several; both lists are named.
    """
    names, wanted = [plain(label) for label in theirs], [plain(label) for label in ours]
    if sorted(names) == sorted(wanted) and len(set(names)) == len(names):
        return [names.index(label) for label in wanted]
    alone = {name for name in {*names, *wanted} if not names.count(name) == wanted.count(name) == 1}
    unmapped, missing = ([label for label in labels if plain(label) in alone] for labels in (theirs, ours))
    raise ParamsError(
        f"labels: the checkpoint answers {listed(theirs)}; the data set has {listed(ours)}. Without a counterpart are "
        f"{listed(unmapped)} of the checkpoint and {listed(missing)} of the data set; rename them in id2label of "
        "config.json, choose data.classes to fit, or train a new head with head: new"
    )


def listed(names: Sequence[str], most: int = 12) -> str:
    """The first of the names, for a message."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "") if names else "none"


def plain(label: str) -> str:
    """The name under which labels are compared: lower case, and that of FER2013 where `ALIASES` knows it."""
    name = label.strip().lower()
    return ALIASES.get(name, name)
