"""Images whose label a model doubts, by the file that `validation.suspicious` names.

images = mark(images, "reports/labels/lenet/train/suspicious.csv")        # adds the column `suspected`
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from emotion_detection.errors import SourceError

KEY = "validation.suspicious.file"


def mark(images: pd.DataFrame, file: str) -> pd.DataFrame:
    """Add the column `suspected`, bool: whether the file names the image by its SHA-256.

    Args:
        images: column `sha256`.
        file: a csv with such a column; empty: none.

    Raises:
        SourceError: the file is missing or no such csv, or none of its images is there.
    """
    if not file:
        return images.assign(suspected=False)
    named = _read(file)
    suspected = images["sha256"].isin(named)
    if len(named) and not suspected.any():
        raise SourceError(f"{KEY}: {file}: none of its {len(named):,} images is in this data set; make it anew")
    return images.assign(suspected=suspected)


def _read(file: str) -> pd.Series:
    try:
        table = pd.read_csv(Path(file).expanduser(), dtype=str)
    except FileNotFoundError:
        raise SourceError(f"{KEY}: {file}: no such file; `emotion labels MODEL` makes one; '' for none") from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise SourceError(f"{KEY}: {file}: cannot be read as csv: {error}") from None
    if "sha256" not in table:
        raise SourceError(f"{KEY}: {file}: has columns {', '.join(map(str, table.columns))}; expected one named sha256")
    return table["sha256"].str.strip().str.lower()
