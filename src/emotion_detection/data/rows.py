"""Single images out of the data set, without reading the rest of it.

images_at(DATASET, [5, 70])                 {5: b"...", 70: b"..."}
images_of(DATASET, {"ab12...", "cd34..."})  {"ab12...": b"...", "cd34...": b"..."}
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from emotion_detection.artifacts import DATASET_SCHEMA, intact, open_parquet, read_table


def images_at(dataset: Path, rows: Collection[int]) -> dict[int, bytes]:
    """Encoded bytes of some rows; of the file only the row groups are read that hold one.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    file = open_parquet(dataset, DATASET_SCHEMA)
    found: dict[int, bytes] = {}
    start = 0
    for group in range(file.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        if wanted := [row for row in rows if start <= row < end]:
            with intact(dataset):
                column = file.read_row_group(group, columns=["image"])["image"]
            found |= {row: column[row - start].as_py() for row in wanted}
        start = end
    return found


def images_of(dataset: Path, sha256: Collection[str]) -> dict[str, bytes]:
    """Encoded bytes of the images with these hashes, as far as the data set has them; errors as `images_at`."""
    hashes = read_table(dataset, DATASET_SCHEMA, ["sha256"])["sha256"]
    rows = pc.indices_nonzero(pc.is_in(hashes, pa.array(list(sha256), pa.string()))).to_pylist()
    first = {hashes[row].as_py(): row for row in reversed(rows)}
    images = images_at(dataset, list(first.values()))
    return {digest: images[row] for digest, row in first.items()}
