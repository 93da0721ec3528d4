"""Which layers are looked at, and where their cells lie: against where a model's own gradients come from."""

import numpy as np
import pytest

from emotion_detection.backend import keras, tf
from emotion_detection.explain.layers import block_maps, head_chain, placement, producer
from emotion_detection.models import InputSpec, build_model

layers = keras.layers
SIZE = 37


def centres_of_receptive_fields(model: keras.Model, cells: int) -> np.ndarray:
    """Row of the image that each row of cells depends on most evenly: the middle of its gradient."""
    image = tf.ones((1, SIZE, SIZE, 1))
    found = []
    for row in range(cells):
        with tf.GradientTape() as tape:
            tape.watch(image)
            value = tf.reduce_sum(model(image)[0, row])
        rows = np.flatnonzero(np.abs(tape.gradient(value, image)).sum(axis=(0, 2, 3)))
        found.append((rows[0] + rows[-1]) / 2)
    return np.array(found)


def stack(*operations) -> keras.Model:
    """Operations with equal weights everywhere, so that no part of a receptive field cancels out."""
    image = x = keras.Input((SIZE, SIZE, 1), name="image")
    for operation in operations:
        x = operation(x)
    model = keras.Model(image, x)
    model.set_weights([np.ones_like(values) for values in model.get_weights()])
    return model


STACKS = {
    "valid": lambda: stack(layers.Conv2D(1, 3), layers.AveragePooling2D(2), layers.Conv2D(1, 3), layers.Conv2D(1, 5)),
    "strided": lambda: stack(layers.Conv2D(1, 3, strides=2), layers.SeparableConv2D(1, 3, strides=2)),
    "dilated": lambda: stack(layers.Conv2D(1, 3, dilation_rate=3), layers.DepthwiseConv2D(3)),
    "padded": lambda: stack(
        layers.ZeroPadding2D(((0, 1), (0, 1))),
        layers.Conv2D(1, 3, strides=2),
        layers.Cropping2D(1),
        layers.Conv2D(1, 3),
    ),
    "same": lambda: stack(
        layers.Conv2D(1, 3, strides=2, padding="same"), layers.AveragePooling2D(3, 2, padding="same")
    ),
}


@pytest.mark.parametrize("name", STACKS)
def test_cells_lie_at_the_centres_of_their_receptive_fields(name):
    model = STACKS[name]()
    rows, columns = placement(model.output)
    cells = model.output.shape[1]
    assert rows.shape == columns.shape == (SIZE, cells)
    expected = centres_of_receptive_fields(model, cells)
    inner = slice(2, -2) if name == "same" else slice(None)  # at the border, padding cuts receptive fields
    peaks = (rows * np.arange(SIZE)[:, None]).sum(axis=0) / rows.sum(axis=0)
    whole = (expected >= np.diff(expected)[0]) & (expected <= SIZE - 1 - np.diff(expected)[0])
    np.testing.assert_allclose(peaks[whole][inner], expected[whole][inner], atol=1e-6)
    assert whole.sum() > 4


def test_the_way_through_joins_and_gates_keeps_to_the_map():
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = layers.Conv2D(4, 3, strides=2)(image)
    gate = layers.Conv2D(4, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    joined = layers.Add()([layers.Conv2D(4, 3, padding="same")(layers.ReLU()(x)), x])
    np.testing.assert_array_equal(placement(layers.Multiply()([gate, joined])), placement(x))


def test_upsizing_moves_cells_back_to_where_they_were():
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = layers.Conv2D(2, 4, strides=4)(layers.Resizing(4 * SIZE, 4 * SIZE)(image))
    rows, _ = placement(x)
    np.testing.assert_allclose(rows, np.eye(SIZE), atol=1e-9)


def test_between_centres_a_map_is_interpolated_and_falls_to_zero_outside():
    rows, _ = placement(stack(layers.Conv2D(1, 5, strides=8)).output)
    np.testing.assert_allclose(rows[[2, 4, 10, 12, 14]][:, :2], [[1, 0], [0.75, 0.25], [0, 1], [0, 0.75], [0, 0.5]])
    assert rows[0, 0] == pytest.approx(0.75)
    assert rows.sum(axis=1).max() == pytest.approx(1)


def name_of(tensor) -> str:
    return producer(tensor)[0].name


def test_last_feature_map_is_that_before_pooling_and_normalisation():
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="last")(layers.Conv2D(4, 3)(image))
    x = layers.Dropout(0.1)(layers.MaxPooling2D()(layers.BatchNormalization()(x)))
    model = keras.Model(image, layers.Dense(3, name="logits")(layers.Dense(5)(layers.Flatten()(x))))
    chain = head_chain(model)
    assert name_of(chain[0]) == "last"
    assert name_of(chain[-1]) == "logits"
    assert len(chain) == 7


def test_a_head_that_is_no_chain_has_no_last_feature_map():
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(4, 3)(image)
    both = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    assert head_chain(keras.Model(image, layers.Dense(3)(both))) == []


def test_blocks_end_where_maps_shrink():
    model = build_model("emotion_cnn", InputSpec(48, 1, 3), {"filters": (4, 5, 6, 7), "dense": 8})
    assert [tuple(tensor.shape[1:]) for tensor in block_maps(head_chain(model)[0])] == [
        (44, 44, 5),
        (20, 20, 6),
        (8, 8, 7),
        (4, 4, 7),
    ]
