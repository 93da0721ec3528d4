"""Small images, trees and archives of them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

from PIL import Image

from emotion_detection.data.sources import Sample, open_source
from emotion_detection.params import DataParams

Tree = dict[str, bytes]


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


def write_tree(root: Path, tree: Tree) -> Path:
    """Write files; a path that ends with "/" is an empty folder."""
    root.mkdir(parents=True, exist_ok=True)
    for name, data in tree.items():
        if name.endswith("/"):
            (root / name).mkdir(parents=True, exist_ok=True)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
    return root


def write_zip(path: Path, tree: Tree, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in tree.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, tree: Tree, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in tree.items():
            info = tarfile.TarInfo(name)
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def read(path: Path) -> list[Sample]:
    """All samples of a source, twice, so that a source that can be read only once is found out."""
    source = open_source(DataParams(source=str(path)), seed=0)
    samples = list(source)
    assert samples == list(source)
    assert len(samples) == len(source)
    assert {sample.split for sample in samples if sample.split} == source.named_splits
    return samples


def two_classes() -> Tree:
    return {f"{label}/{index}.png": png(10 * index) for label in ("happy", "sad") for index in range(3)}
