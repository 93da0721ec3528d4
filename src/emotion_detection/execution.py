"""How the arithmetic of a training is carried out: in which precision, and on how many devices.

    execution = Execution(params.training_of("vit"))
    with execution.scope():            # around building, compiling and fitting the model
        model = build_model(...)

Precision: with `mixed_float16` and `mixed_bfloat16` layers compute in half precision and keep float32 weights; the
loss is float32, and scaled for float16 (P. Micikevicius et al., "Mixed precision training", 2018).

Devices share each batch in equal parts; `batch_size` is that of all together. Each step moves the weights by the
mean gradient over the whole batch, so that for a model without dropout and batch norm the losses are those of one
device up to rounding (relative 1e-4 over some epochs). Dropout draws for each device as if it were the only one.
Batch norm under TensorFlow (`MirroredStrategy`) normalises by the statistics of each device's part, unless the layer
says `synchronized=True`, and averages the moving statistics; under JAX (`DataParallel`) by those of the whole batch.

Batch norm of images is one operation where XLA compiles nothing (`fuse_batch_norm`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from emotion_detection.backend import keras, tf
from emotion_detection.errors import ParamsError
from emotion_detection.params import TrainingParams

Tensor = Any


class Execution:
    """Precision and devices of one training."""

    def __init__(self, training: TrainingParams) -> None:
        """Look at the devices of this machine.

        Raises:
            ParamsError: there are fewer devices than asked for, or they cannot share a batch equally.
        """
        self.policy = training.precision
        self.devices = chosen_devices(training)
        self._sharing = _sharing(self.devices) if len(self.devices) > 1 else None

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What Keras makes and runs in here has this precision and these devices."""
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.policy)
        try:
            if self._sharing is None:
                yield
            else:
                with self._sharing.scope():
                    yield
        finally:
            keras.config.set_dtype_policy(before)


def chosen_devices(training: TrainingParams) -> list[str]:
    """Names of the devices that share a batch; errors as `Execution`."""
    found = available_devices()
    number = len(found) if training.devices == "all" else training.devices
    if number > len(found):
        raise ParamsError(
            f"training.devices: found {number}, but this machine has {len(found)} ({', '.join(found)}); "
            f"use at most {len(found)}, or all"
        )
    if training.batch_size % number:
        raise ParamsError(
            f"training.batch_size: found {training.batch_size}, which {number} devices (training.devices) cannot "
            f"share equally; use a multiple of {number}"
        )
    return found[:number]


def available_devices() -> list[str]:
    """Names of the GPUs that Keras's backend can use; where there are none, of the CPUs."""
    if keras.backend.backend() == "jax":
        return [str(name) for name in keras.distribution.list_devices()]
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [str(device.name) for device in devices]


def _sharing(devices: list[str]) -> Any:
    if keras.backend.backend() == "jax":
        return keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    return tf.distribute.MirroredStrategy(devices)


def fuse_batch_norm(model: keras.Model) -> None:
    """Let each batch norm of images take TensorFlow's one operation for it while it learns.

    Keras takes a dozen, each of which goes through all maps in float32: a third of the time of a residual network on
    a CPU. Results are the same up to rounding; the saved model and inference know nothing of it.
    """
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            fuse_batch_norm(layer)
        elif type(layer) is keras.layers.BatchNormalization and _can_be_fused(layer):
            layer.call = partial(_fused_batch_norm, layer)


def _can_be_fused(layer: keras.layers.BatchNormalization) -> bool:
    images = len(layer.input.shape) == 4 and layer.axis in (-1, 3)
    plain = layer.center and layer.scale and not layer.renorm and not layer.synchronized
    return images and plain and layer.compute_dtype in ("float32", "bfloat16")


def _fused_batch_norm(
    layer: keras.layers.BatchNormalization, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
) -> Tensor:
    """`BatchNormalization.call` for (N, H, W, C)."""
    if not (training and layer.trainable) or mask is not None:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    gamma, beta = tf.convert_to_tensor(layer.gamma), tf.convert_to_tensor(layer.beta)
    fused = tf.compat.v1.nn.fused_batch_norm  # of version 2 there is no public one
    outputs, mean, variance = fused(inputs, gamma, beta, epsilon=layer.epsilon)
    count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], variance.dtype)
    variance *= (count - 1) / count  # it is that of the sample; Keras keeps that of the batch
    for moving, new in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(moving * layer.momentum + new * (1 - layer.momentum))
    return outputs
