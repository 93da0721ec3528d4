"""How the weights are moved: loss, optimizer, learning rate schedule.

compile_model(model, params.training_of("lenet"), steps=100)
"""

from __future__ import annotations

from typing import Any

from emotion_detection.backend import GPUS, keras, tf
from emotion_detection.execution import fuse_batch_norm
from emotion_detection.params import TrainingParams

UNDECAYED = ["bias", "gamma", "beta", "class_token", "positions"]


def compile_model(model: keras.Model, training: TrainingParams, steps: int) -> None:
    """Give a model its loss, and an optimizer that has made no step yet.

    Args:
        model: gives logits (N, K).
        training: what holds in this stage, as `TrainingParams.stage` gives it.
        steps: batches per epoch.
    """
    compiled = _xla_helps()
    if not compiled:
        fuse_batch_norm(model)
    model.compile(
        optimizer=optimizer(training, steps),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=training.label_smoothing),
        metrics=["accuracy"],
        jit_compile="auto" if compiled else False,
    )
    if not tf.distribute.has_strategy():  # else Keras does it
        _make_state(model)


def _make_state(model: keras.Model) -> None:
    """Make the variables of optimizer and metrics now: a step that makes some is traced twice, which for a network of
    many layers is half a minute."""
    model.optimizer.build(model.trainable_variables)
    answer = keras.ops.zeros((1, model.output_shape[-1]))
    model.compute_metrics(None, answer, answer)
    model.reset_metrics()


def _xla_helps() -> bool:
    """XLA makes convolutions on a CPU 4 to 18 times slower, and cannot average gradients over several devices."""
    if keras.backend.backend() == "jax":  # has nothing else
        return True
    return bool(GPUS) and not tf.distribute.has_strategy()


def optimizer(training: TrainingParams, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer with its learning rate schedule, for `steps` batches per epoch."""
    rate = learning_rate(training, steps)
    if training.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    decay = training.weight_decay
    if training.optimizer == "sgd":
        decaying = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay or None)
    else:
        decaying = keras.optimizers.AdamW(rate, weight_decay=decay)
    if decay:
        decaying.exclude_from_weight_decay(var_names=UNDECAYED)
    return decaying


def learning_rate(training: TrainingParams, steps: int) -> Any:
    """A constant, or linear warm-up and then half a cosine to zero (I. Loshchilov & F. Hutter, "SGDR", 2016)."""
    if training.schedule == "constant" or not training.epochs:
        return training.learning_rate
    total = training.epochs * steps
    warmup = min(round(training.warmup_epochs * steps), total - 1)
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(training.learning_rate, total)
    return keras.optimizers.schedules.CosineDecay(
        0.0, total - warmup, warmup_target=training.learning_rate, warmup_steps=warmup
    )
