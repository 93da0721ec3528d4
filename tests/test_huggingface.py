"""Checkpoints that cannot be used say why; those of the hub come through the real client, from a server of our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_detection.errors import ParamsError
from emotion_detection.huggingface import open_checkpoint
from emotion_detection.huggingface_tensors import canonical_name, expected_shapes, read_tensors, resized_positions
from tests.checkpoints import encoder_tensors, golden_tensors, write_checkpoint
from tests.clone import free_port

ROOT = Path(__file__).parents[1]
COMMIT = "c0ffee" * 6 + "cafe"
ID = "somebody/vit-of-emotions"


def read(directory: Path, classifier: bool = True) -> dict[str, Any]:
    return read_tensors(open_checkpoint(str(directory)), classifier)


def test_everything_stored_is_read_under_the_name_of_transformers_5(tmp_path: Path) -> None:
    found = read(write_checkpoint(tmp_path))
    for name, value in golden_tensors().items():
        np.testing.assert_array_equal(found[canonical_name(name)], value)
    assert canonical_name("vit.encoder.layer.1.attention.attention.key.bias") == "layers.1.attention.k_proj.bias"
    renamed = {canonical_name(name): value for name, value in golden_tensors().items()}
    again = read(write_checkpoint(tmp_path / "renamed", renamed))
    assert {name: value.tobytes() for name, value in again.items()} == {k: v.tobytes() for k, v in found.items()}


def test_half_precision_is_read_as_single(tmp_path: Path) -> None:
    halves = {name: value.astype(np.float16) for name, value in golden_tensors().items()}
    found = read(write_checkpoint(tmp_path, halves))
    assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(found["classifier.bias"], golden_tensors()["classifier.bias"], atol=1e-3)


def test_without_an_image_processor_the_defaults_of_vit_hold(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    design = open_checkpoint(str(tmp_path)).design
    np.testing.assert_allclose(design.scale, [2 / 255] * 3)
    np.testing.assert_allclose(design.offset, [-1] * 3)


@pytest.mark.parametrize(
    ("processor", "scale", "offset"),
    [
        ({"do_normalize": False}, 1 / 255, 0),
        ({"do_rescale": False, "image_mean": [100] * 3, "image_std": [50] * 3}, 1 / 50, -2),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1] * 3, "image_std": [2] * 3}, 1 / 255, -0.5),
    ],
)
def test_normalisation_is_that_of_the_image_processor(
    processor: dict[str, Any], scale: float, offset: float, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    design = open_checkpoint(str(tmp_path)).design
    np.testing.assert_allclose(design.scale, [scale] * 3)
    np.testing.assert_allclose(design.offset, [offset] * 3)


def broken(name: str, content: str | bytes | None) -> Callable[[Path], object]:
    def change(directory: Path) -> None:
        path = directory / name
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def cut(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled_only(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            broken("config.json", None),
            r"config\.json: missing; a checkpoint is config\.json, preprocessor_config\.json",
        ),
        (broken("config.json", "{"), r"config\.json: cannot be read"),
        (broken("config.json", "[]"), r"config\.json: cannot be read: not a JSON object"),
        (broken("config.json", " " * (17 << 20)), r"config\.json: cannot be read: larger than 16 MB"),
        (broken("config.json", '{"model_type": "beit"}'), r"model_type is 'beit'; only vit"),
        (broken("config.json", '{"model_type": "vit", "hidden_size": "x"}'), "not the configuration of a ViT"),
        (broken("config.json", '{"model_type": "vit", "num_hidden_layers": 10000000}'), "a size is out of range"),
        (
            broken("config.json", '{"model_type": "vit", "patch_size": [16, 8]}'),
            r"patch_size is \[16, 8\]; only squares",
        ),
        (broken("preprocessor_config.json", '{"image_std": [1, 0, 1]}'), "do not fit 3 channels"),
        (broken("preprocessor_config.json", "{"), r"preprocessor_config\.json: cannot be read"),
        (broken("model.safetensors", None), r"model\.safetensors: missing"),
        (broken("model.safetensors", b"\xff" * 40), r"model\.safetensors: damaged"),
        (cut, r"model\.safetensors: damaged: .*; fetch it again"),
        (pickled_only, r"there is .*pytorch_model\.bin.*can run code and are never loaded.*save_pretrained"),
    ],
)
def test_damaged_checkpoint_names_file_and_fault(
    change: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    change(write_checkpoint(tmp_path))
    with pytest.raises(ParamsError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("vit.layernorm.bias"), r"missing: layernorm\.bias$"),
        (lambda tensors: tensors.update(strange=np.zeros(1, np.float32)), "not part of a ViT classifier: strange$"),
        (
            lambda tensors: tensors.update({"vit.layernorm.bias": np.zeros(9, np.float32)}),
            r"of another size than config\.json says: layernorm\.bias \(9,\) instead of \(24,\)$",
        ),
        (lambda tensors: tensors.update({"layernorm.bias": np.zeros(24, np.float32)}), r"there twice: layernorm\.bias"),
        (
            lambda tensors: tensors.update({"vit.layernorm.bias": np.zeros(24, np.int8)}),
            "of a type other than F16, F32, F64: I8$",
        ),
    ],
)
def test_tensors_that_do_not_fit_the_configuration(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    tensors = golden_tensors()
    change(tensors)
    with pytest.raises(ParamsError, match=message):
        read(write_checkpoint(tmp_path, tensors))


def test_a_model_without_classifier_has_none_to_give(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, encoder_tensors())
    assert len(read(tmp_path, classifier=False)) == len(expected_shapes(open_checkpoint(str(tmp_path)).design, None))
    with pytest.raises(ParamsError, match=r"missing: classifier\.weight, classifier\.bias"):
        read(tmp_path)


def test_interpolation_keeps_what_is_linear_and_the_class_token() -> None:
    grid = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0), indexing="ij"), axis=-1).reshape(1, 64, 2)
    positions = np.concatenate([np.full((1, 1, 2), 7.0), grid], axis=1).astype(np.float32)
    larger = resized_positions(positions, 16)
    np.testing.assert_array_equal(larger[0, 0], [7, 7])
    inside = larger[0, 1:].reshape(16, 16, 2)[4:12, 4:12]
    places = (np.arange(4, 12) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(inside[..., 0], np.repeat(places[:, None], 8, axis=1), atol=0.1)
    np.testing.assert_allclose(inside[..., 1], np.repeat(places[None], 8, axis=0), atol=0.1)
    np.testing.assert_allclose(resized_positions(positions, 8), positions, atol=1e-6)


@pytest.mark.parametrize("weights", ["no/such/directory", "../nowhere", "a b"])
def test_what_is_neither_a_directory_nor_an_id(weights: str) -> None:
    with pytest.raises(ParamsError, match=r"models\.NAME\.weights: .*: no such directory; allowed: none, a directory"):
        open_checkpoint(weights)


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's API that `snapshot_download` speaks to."""

    root: Path

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == f"/api/models/{ID}/revision/main":
            self._json({"id": ID, "modelId": ID, "sha": COMMIT, "siblings": []})
        elif path == f"/api/models/{ID}/tree/{COMMIT}":
            files = [{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": p.name} for p in self._files()]
            self._json(files)
        elif path.startswith(f"/{ID}/resolve/{COMMIT}/"):
            name = path.rpartition("/")[2]
            self._answer((self.root / name).read_bytes(), {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815  the name that the base class looks for

    def log_message(self, *_: object) -> None:
        pass

    def _files(self) -> list[Path]:
        return sorted(self.root.iterdir())

    def _json(self, content: object) -> None:
        self._answer(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _answer(self, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """Address of a hub with one checkpoint, and a pickle beside it."""
    write_checkpoint(tmp_path / "hub")
    (tmp_path / "hub/pytorch_model.bin").write_bytes(b"a pickle")
    handler = type("OneHub", (Hub,), {"root": tmp_path / "hub"})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def fetch(cache: Path, endpoint: str, weights: str, revision: str = "main") -> subprocess.CompletedProcess[str]:
    code = (
        "import sys\n"
        "from emotion_detection.errors import reported\n"
        "from emotion_detection.huggingface import open_checkpoint\n"
        "with reported():\n"
        "    print(open_checkpoint(*sys.argv[1:]).directory)\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"PYTHONPATH": str(ROOT / "src"), "HF_HOME": str(cache), "HF_ENDPOINT": endpoint}
    command = [sys.executable, "-c", code, weights, revision]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_checkpoints_of_the_hub_are_kept_by_commit_and_pickles_stay_there(hub: str, tmp_path: Path) -> None:
    result = fetch(tmp_path / "cache", hub, ID)
    assert result.returncode == 0, result.stderr
    directory = Path(result.stdout.strip())
    assert directory.name == COMMIT
    assert sorted(file.name for file in directory.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    offline = fetch(tmp_path / "cache", f"http://127.0.0.1:{free_port()}", ID, COMMIT)
    assert offline.stdout == result.stdout


def test_without_network_the_error_says_what_to_fetch_and_where_to_put_it(tmp_path: Path) -> None:
    result = fetch(tmp_path / "cache", f"http://127.0.0.1:{free_port()}", ID)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith(f"error: models.NAME.weights: {ID}, revision main, cannot be downloaded (")
    for part in ("config.json", "preprocessor_config.json", "model.safetensors", "set models.NAME.weights"):
        assert part in message
