"""A trained model as a .keras file: equal weights give equal bytes.

    save_model(model, Path("models/lenet/model.keras"))

Keras itself writes the time, addresses in memory and the state of the optimizer into it.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

from emotion_detection.backend import keras


def save_model(model: keras.Model, path: Path) -> None:
    """Save without optimizer and loss."""
    keras.Model(model.inputs, model.outputs, name=model.name).save(path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["metadata.json"] = json.dumps({"keras_version": keras.__version__}).encode()
    content["config.json"] = _numbered_objects(content["config.json"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # which has no date either


def _numbered_objects(config: bytes) -> bytes:
    """Keras names objects that layers share by their address in memory; number them instead."""
    numbers: dict[bytes, int] = {}
    return re.sub(
        rb'("shared_object_id": )(\d+)',
        lambda found: found[1] + b"%d" % numbers.setdefault(found[2], len(numbers)),
        config,
    )
