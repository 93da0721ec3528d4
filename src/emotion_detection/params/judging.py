"""`inference`, `evaluation`, `export`, `edge` and `gate`: what becomes of a trained model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from emotion_detection.params.section import Section, Share


class InferenceParams(Section):
    """How a trained model is asked; it is judged, calibrated and served like this."""

    flip_average: bool | tuple[str, ...] = False
    """Average the logits of a face and of its mirror image, for twice the time: `true`, or for a list of models."""


class EvaluationParams(Section):
    """How models are judged."""

    bootstrap: int = Field(1000, ge=100)
    """Resamples behind each confidence interval."""
    confidence: float = Field(0.95, gt=0, lt=1)
    ece_bins: int = Field(15, ge=2)
    """Equal-width bins of the expected calibration error."""
    mistakes: int = Field(24, ge=0, le=300)
    """Most confident mistakes shown as pictures."""
    explained: int = Field(12, ge=0, le=300)
    """Faces, half of them mistakes, for which the pictures show where the reason for the answer lies."""
    ten_crop: bool = True
    """Also measure accuracy over ten crops of each face, for ten more passes over test."""
    robustness_images: int = Field(120, ge=0)
    """Test images, drawn by seed, that are corrupted in every way of `corruptions`, 33 passes; 0: none."""


class Int8Params(Section):
    """The same graph in 8 bits; the bundle gets it only where it is as good and faster."""

    enabled: bool = True
    """Whether to try it."""
    calibration_images: int = Field(256, ge=1)
    """Training faces from which the ranges of the activations are taken."""
    method: Literal["minmax", "entropy", "percentile"] = "percentile"
    """How: the whole range; the one that loses least information; all but the outermost values."""
    per_channel: bool = True
    """A scale for each feature map of a convolution, instead of one for all."""
    tolerance: Share = 0.003
    """Largest loss of validation accuracy; 0.003 are 0.3 points."""
    min_speedup: float = Field(1.0, ge=0)
    """It must be more than so many times as fast as fp32: batch 1, one thread, where it is exported."""


class ExportParams(Section):
    """How a trained model becomes an ONNX graph."""

    opset: int = Field(18, ge=13)
    max_difference: float = Field(1e-4, gt=0)
    """Largest difference of any probability between Keras and ONNX."""
    parity_images: int = Field(200, ge=1)
    """Test images on which the two are compared."""
    int8: Int8Params = Int8Params()


class EdgeParams(Section):
    """What phones and boards get, beside the bundle."""

    litert: tuple[str, ...] = ()
    """Models that become LiteRT files as well, in float32 and int8: a stage `edge@NAME` for each, into edge/NAME/. It
    takes `export.max_difference`, `parity_images`, and `int8.calibration_images` and `int8.tolerance`."""


class GateParams(Section):
    """What a challenger must show before it may become champion."""

    min_accuracy: Share = 0.5
    min_recall: Share = 0.2
    """Floor for every class."""
    min_slice_accuracy: Share = 0.3
    """Floor for the thirds of the test images by brightness, contrast and sharpness, where they have 30; 0: none."""
    min_corrupted_accuracy: Share = 0.25
    """Floor for the mean accuracy on `evaluation.robustness_images` corrupted test images; 0: none."""
    max_ece: Share = 0.1
    """Expected calibration error after temperature scaling."""
    max_milliseconds: float = Field(50.0, gt=0)
    """Median time of one face, batch 1, one thread, on the machine that runs the gate."""
    margin: Share = 0.01
    """Non-inferiority: the lower end of the interval of (challenger - champion) accuracy must be at least
    minus this."""
    bootstrap: int = Field(2000, ge=100)
    confidence: float = Field(0.95, gt=0, lt=1)
