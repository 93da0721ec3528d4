"""One picture of one person: expression, pose, light and camera are sampled, then drawn.

    shot = sample_shot(rng, "fear", difficulty=0.5)
    pixels = render(person, shot, size=64)      # uint8 (64, 64, 3), BGR

Every draw is made at every difficulty and only its effect is scaled, so that with the same random numbers a higher
difficulty gives the same picture, only harder: fainter, mixed with what people confuse it with, turned, badly lit,
blurred and covered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_detection.data.sources.action_units import ACTION_UNITS, CURVES, EMOTIONS, Points, geometry
from emotion_detection.data.sources.canvas import Canvas, Pixels, mix
from emotion_detection.data.sources.faces import Person, draw_face, draw_glasses

CONFUSED_WITH: Mapping[str, str] = {
    "angry": "disgust",
    "disgust": "angry",
    "fear": "surprise",
    "happy": "neutral",
    "neutral": "sad",
    "sad": "neutral",
    "surprise": "fear",
}
"""What people most often take an expression for."""

GREY = 110
"""Grey value that stays when contrast falls."""
MIN_BLUR = 0.25
"""Pixels; a weaker blur changes nothing."""


@dataclass(frozen=True)
class Shot:
    """What changes from picture to picture."""

    actions: Mapping[int, float]
    """Action unit -> intensity, 0 to 1."""
    asymmetry: float
    gaze: Points
    """float64 (2,), units of the face."""
    turn: Points
    """float64 (3,): pitch, yaw, roll; radians."""
    scale: float
    """Units of the face -> share of the picture's side."""
    shift: Points
    """float64 (2,), share of the picture's side."""
    light: Points
    """float64 (2,): from where, and by its length how strongly."""
    hardness: float
    """Of the edge between light and shadow."""
    tint: Points
    """float64 (3,): gain of blue, green, red."""
    contrast: float
    backdrop: Pixels
    """uint8 (4, 4, 3), enlarged behind the head."""
    occluder: str | None
    place: Points
    """float64 (3,), 0 to 1: where and how large the occluder is."""
    blur: float
    """Standard deviation, share of the picture's side."""
    noise: float
    """Standard deviation, grey values."""
    quality: int
    """Of the JPEG."""


def strain(difficulty: float) -> float:
    """Size of all hindrances, 0 to 0.6.

    Calibrated with benchmarks/synthetic_difficulty.py: a plain CNN, trained on 2,800 images at 48 x 48 grey, reads
    unseen people with an accuracy of 0.99 at difficulty 0, 0.90 at 0.5, 0.71 at 0.75 and 0.32 at 1.
    """
    return 0.6 * math.pow(difficulty, 1.6)


def sample_actions(rng: np.random.Generator, label: str, difficulty: float) -> dict[int, float]:
    """Intensities for an emotion: faded, blended with its usual confusion, and joined by stray movements."""
    own, other, hard = EMOTIONS[label], EMOTIONS[CONFUSED_WITH[label]], strain(difficulty)
    fade, blend, talk, blink = rng.random(4).tolist()
    single, stray, missing = rng.random((3, len(ACTION_UNITS))).tolist()
    strength, share = 1 - 0.75 * hard * fade, 0.65 * hard * blend**2
    actions = {}
    for row, unit in enumerate(ACTION_UNITS):
        value = share * strength * (unit in other)
        if unit not in own:
            value += 2 * hard * max(0.0, stray[row] - 0.75)
        elif missing[row] >= 0.3 * hard:
            value += (1 - share) * strength * (1 - 0.4 * hard * single[row])
        actions[unit] = min(1.0, value)
    actions[25] = talk * strength if label == "happy" else max(0.0, talk - 0.7) * 3
    actions[43] = 0.8 * (blink < 0.15 * hard)
    return actions


def sample_shot(rng: np.random.Generator, label: str, difficulty: float) -> Shot:
    """Draw the circumstances of one picture.

    Args:
        label: a key of `EMOTIONS`.
        difficulty: 0 (posed, frontal, evenly lit) to 1.
    """
    actions, hard = sample_actions(rng, label, difficulty), strain(difficulty)
    wide, uniform = rng.standard_normal(13).clip(-2, 2), rng.random(12)
    angle = 2 * np.pi * uniform[0]
    return Shot(
        actions=actions,
        asymmetry=0.25 * hard * wide[0],
        gaze=np.array([0.03, 0.015]) * wide[1:3] * (0.3 + hard),
        turn=np.array([0.14, 0.3, 0.13]) * wide[3:6] * (0.15 + 0.85 * hard),
        scale=0.44 * (1 + 0.07 * hard * wide[6]),
        shift=0.035 * hard * wide[7:9],
        light=np.array([np.cos(angle), np.sin(angle)]) * (0.1 + 0.55 * hard * uniform[1]),
        hardness=1 + 3 * uniform[2],
        tint=(1 + 0.06 * hard * wide[9:12]) * (1 + 0.25 * hard * wide[12]),
        contrast=1 - 0.5 * hard * uniform[3],
        backdrop=_backdrop(rng, hard),
        occluder=tuple(OCCLUDERS)[int(uniform[5] * len(OCCLUDERS))] if uniform[4] < 0.4 * hard else None,
        place=uniform[6:9],
        blur=0.03 * hard * uniform[9] ** 2,
        noise=1.5 + 14 * hard * uniform[10] ** 2,
        quality=round(95 - 50 * hard * uniform[11]),
    )


def render(person: Person, shot: Shot, size: int) -> Pixels:
    """Draw the picture: uint8 (size, size, 3), BGR, before sensor noise."""
    points = project(geometry(shot.actions, person.shape, shot.asymmetry), shot, size)
    canvas = Canvas(shot.backdrop, points, size)
    draw_face(canvas, person, shot.actions, shot.gaze)
    if shot.occluder:
        OCCLUDERS[shot.occluder](canvas, person, shot.place)
    return canvas.finished()


def project(vertices: Points, shot: Shot, size: int) -> Points:
    """Turn the head and look at it from far away: (n, 3) in units of the face -> (n, 2) in pixels."""
    rotation, _ = cv2.Rodrigues(np.array([shot.turn[0], shot.turn[1], 0.0]))
    sin, cos = np.sin(shot.turn[2]), np.cos(shot.turn[2])
    plane = np.array([[cos, -sin, 0], [sin, cos, 0]]) @ rotation
    flat: Points = np.einsum("vi,pi->vp", vertices, plane * (shot.scale * size))
    return flat + size * (0.5 + shot.shift)


def photograph(rng: np.random.Generator, pixels: Pixels, shot: Shot) -> bytes:
    """Blur the picture, light it, add noise and compress: JPEG bytes."""
    size = pixels.shape[0]
    seen = cv2.GaussianBlur(pixels, (0, 0), shot.blur * size) if shot.blur * size > MIN_BLUR else pixels
    gain = _light(shot, size)[:, :, None] * (shot.contrast * shot.tint).astype(np.float32)
    grain = rng.standard_normal((size, size), dtype=np.float32) * shot.noise + GREY * (1 - shot.contrast)
    lit = cv2.multiply(seen, gain, dtype=cv2.CV_32F)
    exposed = cv2.add(lit, cv2.merge([grain.astype(np.float32)] * 3), dtype=cv2.CV_8U)
    _, encoded = cv2.imencode(".jpg", exposed, [cv2.IMWRITE_JPEG_QUALITY, shot.quality])
    return encoded.tobytes()


def _light(shot: Shot, size: int) -> NDArray[np.float32]:
    """Gain of every pixel (size, size): a lit and a shaded side, and a fall-off, for a head is round."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    strength = math.hypot(*shot.light)
    across, down = (shot.light * (shot.hardness / strength)).tolist()
    side = np.tanh(across * axis[None, :] + down * axis[:, None])
    falloff = (1.06 - 0.2 * axis**2)[None, :] - (0.2 * axis**2)[:, None]
    lit: NDArray[np.float32] = falloff * (1 + strength * side)
    return lit


def _backdrop(rng: np.random.Generator, hard: float) -> Pixels:
    base, patches = rng.uniform(50, 210) + rng.normal(0, 18, 3), rng.normal(0, 1, (4, 4, 3))
    return (base + patches * (8 + 45 * hard)).clip(0, 255).astype(np.uint8)


def _hand(canvas: Canvas, person: Person, place: Points) -> None:
    skin = mix(person.skin, (0, 0, 0), 0.1)
    palm = canvas.moved(canvas.points[CURVES["chin_fold"]][3], 1.2 * place[0] - 0.6, 0.55 - 0.3 * place[1])
    canvas.disc(skin, palm, 0.34)
    for finger in (-1.5, -0.5, 0.5, 1.5):
        tip = canvas.moved(palm, 0.18 * finger, -0.4 - 0.45 * place[2] + 0.05 * abs(finger))
        line = [canvas.fixed(np.array([tip, canvas.moved(palm, 0.18 * finger, -0.1)]))]
        canvas.polyline(mix(skin, (0, 0, 0), 0.3), line, 0.17)
        canvas.polyline(skin, line, 0.13)


def _strand(canvas: Canvas, person: Person, place: Points) -> None:
    top, end = canvas.points[CURVES["hairline"]][7], canvas.points[CURVES["ear_l" if place[0] < 0.5 else "ear_r"]][3]
    hair = np.array([top + (top - end) * 0.3, canvas.moved((top + end) / 2, 0, 0.25 * place[1]), end])
    canvas.polyline(person.hair, [canvas.fixed(hair)], 0.12 + 0.2 * place[2])


def _bar(canvas: Canvas, person: Person, place: Points) -> None:
    size, angle = canvas.shade.shape[0], np.pi * place[2]
    centre, along = size * (0.25 + 0.5 * place[:2]), size * np.array([np.cos(angle), np.sin(angle)])
    canvas.polyline(person.clothes, [canvas.fixed(np.array([centre - along, centre + along]))], 0.2)


def _scarf(canvas: Canvas, person: Person, place: Points) -> None:
    ends = 2 + int(4 * place[0])
    jaw = canvas.points[CURVES["jaw"]][ends:-ends]
    cloth = jaw + (jaw - jaw.mean(axis=0)) * (0.06, 0.3)
    canvas.fill_polygon(person.clothes, canvas.fixed(cloth))


def _sunglasses(canvas: Canvas, person: Person, place: Points) -> None:
    draw_glasses(canvas, mix((25, 20, 20), person.clothes, 0.2 * place[0]), lenses=True)


OCCLUDERS: Mapping[str, Callable[[Canvas, Person, Any], None]] = {
    "hand": _hand,
    "strand": _strand,
    "bar": _bar,
    "scarf": _scarf,
    "sunglasses": _sunglasses,
}
"""What may cover a face, by name."""
