"""Who is drawn, and how: a person's features, and the painting of one face.

person = sample_person(np.random.default_rng(0))
draw_face(canvas, person, {6: 0.8, 12: 1.0}, gaze=np.zeros(2))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from emotion_detection.data.sources.action_units import CURVES, SHAPE_UNITS, Points
from emotion_detection.data.sources.canvas import FRACTION_BITS, SUPERSAMPLING, Canvas, Colour, FixedPoints, mix

HairStyle = Literal["short", "long", "curly", "cropped", "bald"]
HAIR_STYLES: Mapping[HairStyle, float] = {"short": 0.38, "long": 0.3, "curly": 0.14, "cropped": 0.1, "bald": 0.08}

_WHITE: Colour = (238, 240, 242)
_SKIN = np.array([(182, 204, 240), (150, 182, 230), (112, 150, 205), (80, 112, 165), (58, 80, 122), (44, 56, 86)])
_HAIR = np.array([(24, 22, 24), (36, 52, 78), (60, 90, 130), (90, 150, 200), (38, 70, 150), (165, 165, 170)])
_IRIS = np.array([(20, 40, 66), (40, 70, 100), (130, 110, 70), (70, 110, 80)])
_LIPS: Colour = (88, 78, 176)


@dataclass(frozen=True)
class Person:
    """What stays the same in all pictures of someone."""

    shape: Points
    """float64 (len(SHAPE_UNITS),), standard deviations."""
    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    clothes: Colour
    hair_style: HairStyle
    beard: float
    """0: shaved, 1: full."""
    moustache: float
    glasses: bool
    age: float
    """0: no lines at rest, 1: deep ones."""


def sample_person(rng: np.random.Generator) -> Person:
    """Draw a person at random."""
    tone, hue, warmth = rng.uniform(0, len(_SKIN) - 1), rng.uniform(0, 1), rng.normal(0, 6)
    skin: Colour = tuple(np.interp(tone, range(len(_SKIN)), channel) for channel in _SKIN.T)
    skin = (skin[0] - warmth, skin[1], skin[2] + warmth)
    hair_row = 0 if tone > 3 and hue < 0.8 else int(hue * len(_HAIR))  # dark skin mostly goes with dark hair
    hair: Colour = tuple(np.clip(_HAIR[hair_row] * rng.uniform(0.7, 1.25), 0, 255))
    bearded, style = rng.random() < 0.28, rng.choice(len(HAIR_STYLES), p=tuple(HAIR_STYLES.values()))
    return Person(
        shape=rng.standard_normal(len(SHAPE_UNITS)).clip(-2, 2),
        skin=skin,
        hair=hair,
        iris=tuple(_IRIS[0 if tone > 2.5 else rng.integers(len(_IRIS))].astype(float)),
        lips=mix(mix(skin, _LIPS, rng.uniform(0.25, 0.7)), (0, 0, 0), 0.12),
        clothes=tuple(rng.uniform(30, 220, 3)),
        hair_style=tuple(HAIR_STYLES)[style],
        beard=bearded * rng.uniform(0.15, 1),
        moustache=bearded * rng.uniform(0, 1),
        glasses=bool(rng.random() < 0.16),
        age=rng.uniform(0, 1) ** 1.5,
    )


def draw_face(canvas: Canvas, person: Person, actions: Mapping[int, float], gaze: Points) -> None:
    """Paint a person; `actions` decide the wrinkles and teeth, the vertices have moved already.

    Args:
        gaze: float64 (2,), shift of the irises in units of the face.
    """
    _draw_back(canvas, person)
    canvas.fill(person.skin, "jaw", "skull")
    _shade_face(canvas, person.age, actions)
    _draw_beard(canvas, person)
    _draw_nose(canvas, person)
    for side in ("l", "r"):
        _draw_eye(canvas, person, side, gaze)
    _draw_mouth(canvas, person, actions)
    canvas.bake()
    _draw_hair(canvas, person)
    if person.glasses:
        draw_glasses(canvas, mix(person.hair, (20, 20, 20), 0.5), lenses=False)


def _draw_back(canvas: Canvas, person: Person) -> None:
    if person.hair_style == "long":
        canvas.fill(mix(person.hair, (0, 0, 0), 0.25), "hair_back")
    left, right = canvas.points[CURVES["jaw"]][[3, -4]]  # neck and shoulders stay upright when the head tilts
    move = canvas.moved
    neck = [move(left, 0.2, 0), move(right, -0.2, 0), move(right, -0.2, 1.2), move(left, 0.2, 1.2)]
    canvas.fill_polygon(mix(person.skin, (0, 0, 0), 0.28), canvas.fixed(np.array(neck)))
    body = [move(left, 0.1, 0.9), move(right, -0.1, 0.9), move(right, 1.1, 1.15), move(right, 1.1, 4)]
    body += [move(left, -1.1, 4), move(left, -1.1, 1.15)]
    canvas.fill_polygon(person.clothes, canvas.fixed(np.array(body)))
    for ear in ("ear_l", "ear_r"):
        canvas.fill(mix(person.skin, (40, 40, 110), 0.18), ear)


def _shade_face(canvas: Canvas, age: float, actions: Mapping[int, float]) -> None:
    def at(*units: int) -> float:
        return max(actions.get(unit, 0.0) for unit in units)

    for side in ("l", "r"):
        canvas.shade_area(0.88, f"socket_{side}")
        canvas.shade_area(1.05 + 0.13 * at(6, 12), f"cheek_{side}")
        canvas.shade_line(0.12, f"nose_side_{side}", width=0.05)
        canvas.shade_line(0.06 + 0.16 * age + 0.4 * at(12, 9), f"fold_{side}", width=0.035)
        canvas.shade_line(0.06 + 0.16 * age + 0.3 * at(6, 7), f"pouch_{side}")
        canvas.shade_line(0.2 * age + 0.45 * at(6), f"crow_{side}")
        canvas.shade_line(0.14 * age + 0.45 * at(15) + 0.2 * at(20), f"marionette_{side}", width=0.035)
    canvas.shade_area(1.1, "nose_tip")
    canvas.shade_line(0.14 * age + 0.5 * at(4), "glabella_l", "glabella_r", width=0.025)
    canvas.shade_line(0.22 * age + 0.32 * at(1, 2), "forehead_1", "forehead_2")
    canvas.shade_line(0.5 * at(9), "nose_wrinkle_1", "nose_wrinkle_2", width=0.03)
    canvas.shade_line(0.14 + 0.15 * at(15, 23), "chin_fold", width=0.05)


def _draw_beard(canvas: Canvas, person: Person) -> None:
    if person.beard:
        canvas.fill(mix(person.skin, person.hair, 0.3 + 0.55 * person.beard), "jaw", "-beard")


def _draw_nose(canvas: Canvas, person: Person) -> None:
    shadow = mix(person.skin, (0, 0, 40), 0.35)
    canvas.line(shadow, "nose_base", 0.02)
    for side in ("l", "r"):
        canvas.line(shadow, f"wing_{side}", 0.018)
        canvas.fill(mix(person.skin, (0, 0, 20), 0.65), f"nostril_{side}")


def _draw_eye(canvas: Canvas, person: Person, side: str, gaze: Points) -> None:
    upper, lower, crease = f"upper_lid_{side}", f"lower_lid_{side}", f"crease_{side}"
    iris = canvas.moved(canvas.points[CURVES[f"iris_{side}"]][0], *gaze)
    canvas.fill(_WHITE, upper, "-" + lower)
    canvas.disc(person.iris, iris, 0.085)
    canvas.disc((12, 12, 12), iris, 0.042)
    canvas.disc((255, 255, 255), canvas.moved(iris, -0.025, -0.03), 0.018)
    canvas.fill(mix(person.skin, (30, 20, 60), 0.14), crease, "-" + upper)
    canvas.fill(person.skin, lower, f"-pouch_{side}")
    canvas.line(mix(person.skin, (0, 0, 20), 0.3), crease, 0.012)
    canvas.line(mix(person.skin, (0, 0, 20), 0.35), lower, 0.012)
    canvas.line(mix(person.skin, (10, 10, 10), 0.88), upper, 0.03)
    canvas.fill(mix(person.hair, person.skin, 0.12), f"brow_top_{side}", f"-brow_bottom_{side}")


def _draw_mouth(canvas: Canvas, person: Person, actions: Mapping[int, float]) -> None:
    upper, lower = canvas.curve("upper_lip_seam"), canvas.curve("lower_lip_seam")
    gap, pixel = lower - upper, 2**FRACTION_BITS
    if gap[:, 1].max() > pixel:
        depth = round(0.07 * canvas.unit * SUPERSAMPLING * pixel)
        canvas.fill_polygon((28, 16, 58), np.concatenate([upper, lower[::-1]]))
        tongue = lower - np.minimum(gap // 2, depth)
        canvas.fill_polygon((92, 84, 176), np.concatenate([tongue, lower[::-1]]))
        canvas.fill_polygon(_WHITE, np.concatenate([upper, (upper + np.minimum(gap, depth) * (0, 1))[::-1]]))
        if actions.get(16, 0.0) > 0.3:
            canvas.fill_polygon(_WHITE, np.concatenate([lower, (lower - np.minimum(gap, depth) * (0, 1))[::-1]]))
    if person.moustache:
        canvas.fill(mix(person.skin, person.hair, 0.2 + 0.7 * person.moustache), "moustache", "-upper_lip_rim")
    canvas.fill(person.lips, "upper_lip_rim", "-upper_lip_seam")
    canvas.fill(mix(person.lips, (200, 200, 255), 0.12), "lower_lip_rim", "-lower_lip_seam")
    canvas.line(mix(person.lips, (10, 0, 30), 0.6), "upper_lip_seam", 0.016)


def _draw_hair(canvas: Canvas, person: Person) -> None:
    if person.hair_style == "bald":
        return
    if person.hair_style == "cropped":
        canvas.fill(mix(person.hair, person.skin, 0.3), "skull", "hairline")
        return
    canvas.fill(person.hair, "hair_outer", "hairline")
    if person.hair_style == "curly":
        for vertex in canvas.points[CURVES["hair_outer"]][1:-1]:
            canvas.disc(person.hair, vertex, 0.13)
    shine = (canvas.curve("hair_outer")[8:-6] * 2 + canvas.curve("hairline")[4:].mean(axis=0)) / 3
    canvas.polyline(mix(person.hair, (255, 255, 255), 0.08), [shine.astype(np.int32)], 0.1)


def draw_glasses(canvas: Canvas, colour: Colour, lenses: bool) -> None:
    """Round the eyes; filled for sunglasses."""
    rims = [_rim(canvas.curve(f"socket_{side}")) for side in ("l", "r")]
    if lenses:
        for rim in rims:
            canvas.fill_polygon(colour, rim)
    canvas.polyline(colour, rims, 0.03, closed=True)
    canvas.polyline(colour, [np.array([rims[0][0], rims[1][0]])], 0.03)


def _rim(socket: FixedPoints) -> FixedPoints:
    centre = socket.mean(axis=0)
    rim: FixedPoints = (centre + (socket - centre) * (0.95, 1.2)).astype(np.int32)
    return rim
