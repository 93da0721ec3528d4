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


def bare(model: keras.Model) -> keras.Model:
    """The same layers and weights without optimizer and loss."""
    return keras.Model(model.input, model.output, name=model.name)


def in_float32(model: keras.Model) -> keras.Model:
    """The same weights without optimizer and loss, computing in float32 whatever precision they were trained in."""
    policy, model = model.dtype_policy.name, bare(model)
    if policy == "float32":
        return model
    config = json.dumps(model.get_config()).replace(json.dumps(policy), '"float32"')
    rebuilt = type(model).from_config(json.loads(config))
    rebuilt.set_weights(model.get_weights())
    return rebuilt


def save_model(model: keras.Model, path: Path) -> None:
    """Save without optimizer and loss, to compute in float32: what ONNX Runtime and the server compare with."""
    in_float32(model).save(path)
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
