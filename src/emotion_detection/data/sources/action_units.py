"""A face as a linear model: mean shape, plus shape units of a person, plus action units of an expression.

    points = geometry(actions={6: 0.8, 12: 1.0})        # a smile
    points[CURVES["upper_lip_rim"]]                     # float64 (13, 3)

The form is that of CANDIDE-3 (Ahlberg, "CANDIDE-3: an updated parameterised face", 2001); action units are those
of FACS (Ekman and Friesen, "Facial Action Coding System", 1978), their combinations into emotions EMFACS's.

The unit of length is half the height of a face; x points to the right of the image, y down, z to the camera; the
origin lies between eyes and mouth. All moves are linear, so that a face costs two weighted sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
_Move = tuple[str, str, float, float]  # curves (prefixes of their names), weight, outwards, down

EMOTIONS: Mapping[str, tuple[int, ...]] = {
    "angry": (4, 5, 7, 23),
    "disgust": (9, 15, 16),
    "fear": (1, 2, 4, 5, 7, 20, 26),
    "happy": (6, 12),
    "neutral": (),
    "sad": (1, 4, 15),
    "surprise": (1, 2, 5, 26),
}
"""Label -> action units."""

ACTION_UNITS: Mapping[int, tuple[_Move, ...]] = {
    1: (("brow", "inner", -0.01, -0.15), ("crease", "middle", 0, -0.02), ("forehead", "all", 0, -0.03)),
    2: (("brow", "outer", 0.01, -0.14), ("brow", "all", 0, -0.03), ("crease", "middle", 0, -0.02)),
    4: (("brow", "inner", -0.06, 0.09), ("brow", "all", -0.01, 0.045), ("crease", "middle", 0, 0.03)),
    5: (("upper_lid", "middle", 0, -0.055), ("crease", "middle", 0, -0.02)),
    6: (("lower_lid pouch", "middle", 0, -0.035), ("cheek", "all", 0, -0.06)),
    7: (("lower_lid pouch", "middle", 0, -0.03), ("upper_lid", "middle", 0, 0.025)),
    9: (
        ("nostril wing nose_base", "all", 0.02, -0.05),
        ("upper_lip moustache", "middle", 0, -0.06),
        ("fold", "inner", 0.02, -0.05),
        ("brow", "inner", -0.03, 0.06),
        ("lower_lid", "middle", 0, -0.025),
    ),
    12: (
        ("upper_lip lower_lip moustache", "corner", 0.1, -0.15),
        ("fold", "outer", 0.09, -0.05),
        ("cheek", "all", 0.01, -0.04),
        ("marionette", "all", 0.09, -0.12),
    ),
    15: (
        ("upper_lip lower_lip moustache", "corner", 0, 0.13),
        ("upper_lip lower_lip", "middle", 0, -0.015),
        ("marionette", "all", 0, 0.09),
    ),
    16: (("lower_lip", "middle", 0, 0.085), ("chin_fold", "all", 0, 0.03)),
    20: (
        ("upper_lip lower_lip moustache", "corner", 0.14, 0.05),
        ("lower_lip", "middle", 0, 0.03),
        ("marionette", "all", 0.1, 0.02),
    ),
    23: (
        ("upper_lip lower_lip moustache", "corner", -0.05, 0),
        ("upper_lip_rim", "middle", 0, 0.045),
        ("lower_lip_rim", "middle", 0, -0.065),
    ),
    25: (("upper_lip", "middle", 0, -0.02), ("lower_lip", "middle", 0, 0.05)),
    26: (
        ("lower_lip", "middle", 0, 0.29),
        ("upper_lip", "middle", 0, -0.01),
        ("upper_lip lower_lip moustache", "corner", -0.08, 0.09),
        ("chin_fold", "all", 0, 0.2),
        ("jaw beard", "lower", 0, 0.15),
    ),
    43: (("upper_lid", "middle", 0, 0.11),),
}
"""Action unit -> what it moves at full intensity. 25 (lips part) and 43 (eyes closed) belong to no emotion."""

SHAPE_UNITS: Mapping[str, tuple[_Move, ...]] = {
    "face_width": (("jaw beard skull ear hair", "all", 0.05, 0),),
    "jaw_width": (("jaw beard", "lower", 0.09, 0),),
    "chin": (("jaw beard", "lower", 0, 0.06),),
    "forehead": (("skull hairline hair_outer", "upper", 0, -0.05),),
    "eye_distance": (("brow upper_lid lower_lid crease pouch socket iris crow", "all", 0.025, 0),),
    "eye_size": (("upper_lid crease", "middle", 0, -0.014), ("lower_lid", "middle", 0, 0.008)),
    "eye_slant": (("upper_lid lower_lid crease", "outer", 0, -0.016),),
    "brow_height": (("brow", "all", 0, -0.02),),
    "brow_weight": (("brow_top", "all", 0, -0.012), ("brow_bottom", "all", 0, 0.008)),
    "brow_slant": (("brow", "outer", 0, -0.025),),
    "nose_width": (("wing nostril nose_base", "all", 0.025, 0),),
    "nose_length": (("wing nostril nose_base nose_tip", "all", 0, 0.03),),
    "mouth_width": (("upper_lip lower_lip moustache", "corner", 0.03, 0),),
    "lips": (("upper_lip_rim", "middle", 0, -0.014), ("lower_lip_rim", "middle", 0, 0.018)),
    "mouth_height": (("upper_lip lower_lip moustache marionette chin_fold", "all", 0, 0.02),),
    "mouth_bow": (("upper_lip lower_lip moustache", "corner", 0, 0.02),),
    "fringe": (("hairline", "middle", 0, 0.09),),
    "parting": (("hairline", "outer", 0, 0.05),),
    "hair_volume": (("hair_outer hair_back", "all", 0.04, 0), ("hair_outer", "upper", 0, -0.04)),
}
"""What makes a person: unit -> what it moves for one standard deviation."""

# How far a vertex follows a move, by its parameter t: 0 to 1 away from the midline on brows and folds, -1 to 1 along
# eyelids and lips, and from top to bottom of outlines.
_WEIGHTS: Mapping[str, Callable[[Points], Points]] = {
    "all": np.ones_like,
    "inner": lambda t: 1 - t,
    "outer": lambda t: t,
    "middle": lambda t: 1 - t**2,
    "corner": lambda t: t**2,
    "upper": lambda t: np.maximum(-t, 0),
    "lower": lambda t: np.maximum(t, 0) ** 1.5,
}


def _line(count: int, x: tuple[float, ...], y: tuple[float, ...], start: float = -1) -> Points:
    """(x, y, t) along polynomials in t, constant term first, t from `start` to 1."""
    t = np.linspace(start, 1, count)
    return np.stack([np.polynomial.polynomial.polyval(t, x), np.polynomial.polynomial.polyval(t, y), t], axis=1)


def _arc(count: int, centre: tuple[float, float], radii: tuple[float, float], degrees: tuple[float, float]) -> Points:
    """(x, y, t) on an ellipse, from one angle to another, clockwise from the right; t is the relative height."""
    angle = np.radians(np.linspace(*degrees, count))
    t = np.sin(angle)
    return np.stack([centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * t, t], axis=1)


def _jaw() -> Points:
    line = _arc(23, (0, 0.05), (0.8, 1.02), (180, 0))
    line[:, 0] *= 1 - 0.1 * np.maximum(line[:, 2], 0) * (1 - np.abs(line[:, 0]))
    return line


# Curves that exist on both sides, drawn for x > 0, each with what it stands out above the ellipsoid of the head.
_PAIRED: Mapping[str, tuple[Points, float]] = {
    "brow_top": (_line(7, (0.13, 0.5), (-0.44, -0.22, 0.24), 0), 0.02),
    "brow_bottom": (_line(7, (0.13, 0.5), (-0.37, -0.2, 0.21), 0), 0.02),
    "upper_lid": (_line(9, (0.36, 0.165), (-0.215, 0, 0.075)), 0),
    "lower_lid": (_line(9, (0.36, 0.165), (-0.09, 0, -0.05)), 0),
    "crease": (_line(9, (0.36, 0.19), (-0.28, 0, 0.1)), 0),
    "pouch": (_line(7, (0.35, 0.14), (0.0, 0, -0.06)), 0),
    "iris": (np.array([[0.36, -0.16, 0]]), 0),
    "socket": (_arc(12, (0.36, -0.2), (0.25, 0.16), (0, 330)), 0),
    "nose_side": (_line(6, (0.09, -0.04, 0.06), (-0.25, 0.48), 0), 0.1),
    "wing": (_arc(6, (0.1, 0.26), (0.08, 0.075), (-70, 80)), 0.1),
    "nostril": (_arc(8, (0.075, 0.305), (0.042, 0.022), (0, 315)), 0.15),
    "fold": (_line(6, (0.2, 0.22), (0.24, 0.12, 0.24), 0), 0),
    "crow": (np.array([[x, y, 0] for tip in (-0.25, -0.15, -0.05) for x, y in ((0.57, -0.14), (0.69, tip))]), 0),
    "cheek": (_arc(12, (0.42, 0.2), (0.2, 0.15), (0, 330)), 0),
    "marionette": (_line(4, (0.29, 0.06), (0.66, 0.14), 0), 0),
    "glabella": (_line(3, (0.05, -0.01), (-0.46, 0.18), 0), 0),
    "ear": (_arc(12, (0.8, 0.02), (0.11, 0.22), (0, 330)), -0.25),
}
_CENTRAL: Mapping[str, tuple[Points, float]] = {
    "jaw": (_jaw(), 0),
    "skull": (_arc(23, (0, 0.05), (0.8, 1.15), (0, -180)), 0),
    "forehead_1": (_line(7, (0, 0.36), (-0.62, 0, 0.05)), 0),
    "forehead_2": (_line(7, (0, 0.4), (-0.72, 0, 0.05)), 0),
    "nose_tip": (_arc(10, (0, 0.22), (0.07, 0.07), (0, 324)), 0.25),
    "nose_base": (_line(7, (0, 0.12), (0.32, 0, -0.01)), 0.15),
    "nose_wrinkle_1": (_line(5, (0, 0.1), (-0.12, 0, 0.05)), 0.1),
    "nose_wrinkle_2": (_line(5, (0, 0.1), (-0.04, 0, 0.05)), 0.12),
    "upper_lip_rim": (_line(13, (0, 0.3), (0.525, 0, -0.03, 0, 0.085)), 0.02),
    "upper_lip_seam": (_line(13, (0, 0.3), (0.585, 0, -0.005)), 0.02),
    "lower_lip_seam": (_line(13, (0, 0.3), (0.585, 0, -0.005)), 0.02),
    "lower_lip_rim": (_line(13, (0, 0.3), (0.68, 0, -0.1)), 0.02),
    "moustache": (_line(11, (0, 0.3), (0.385, 0, 0.12, 0, 0.09)), 0.05),
    "chin_fold": (_line(7, (0, 0.16), (0.79, 0, 0.03)), 0),
    "beard": (_line(15, (0, 0.78), (0.74, 0, -0.16, 0, -0.5)), 0),
    "hair_outer": (_arc(25, (0, 0.02), (0.9, 1.24), (12, -192)), -0.1),
    "hairline": (_line(15, (0, 0.78), (-0.74, 0, 0.0, 0, 0.62)), 0),
    "hair_back": (_arc(24, (0, 0.2), (1.0, 1.35), (0, 345)), -0.45),
}


def _mirrored(curve: Points) -> Points:
    return curve * (-1, 1, 1)


def _vertices() -> tuple[dict[str, slice], Points, Points]:
    """Curves' places among the vertices, the mean face (vertices, 3), and each vertex's t."""
    curves = {f"{name}_r": curve for name, curve in _PAIRED.items()}
    curves |= {f"{name}_l": (_mirrored(line), bump) for name, (line, bump) in _PAIRED.items()}
    curves |= _CENTRAL
    ends = np.cumsum([len(line) for line, _ in curves.values()])
    places = {name: slice(end - len(curves[name][0]), end) for name, end in zip(curves, ends, strict=True)}
    lines = np.concatenate([line for line, _ in curves.values()])
    bumps = np.concatenate([np.full(len(line), bump) for line, bump in curves.values()])
    x, y, t = lines.T
    depth = 0.7 * np.sqrt(np.maximum(0, 1 - (x / 0.95) ** 2 - (y / 1.25) ** 2))
    return places, np.stack([x, y, depth + bumps], axis=1), t


CURVES, MEAN, _T = _vertices()
"""Places of the named curves among the vertices (pairs end in _l and _r of the image), and the mean face."""


def _basis(units: Iterable[tuple[_Move, ...]]) -> Points:
    """(units, vertices, 3): what each unit adds to the mean face."""
    return np.stack([sum((_displacement(move) for move in moves), np.zeros_like(MEAN)) for moves in units])


def _displacement(move: _Move) -> Points:
    prefixes, weight, outwards, down = move
    result = np.zeros_like(MEAN)
    for name, place in CURVES.items():
        if name.startswith(tuple(prefixes.split())):
            x, follows = MEAN[place, 0], _WEIGHTS[weight](_T[place])
            sideways = np.sign(x) if name.endswith(("_l", "_r")) else x / np.abs(x).max()
            result[place, 0], result[place, 1] = outwards * sideways * follows, down * follows
    return result


_ACTIONS = _basis(ACTION_UNITS.values())
_SHAPES = _basis(SHAPE_UNITS.values())
_SIDE = np.sign(MEAN[:, :1])


def geometry(actions: Mapping[int, float], shape: Points | None = None, asymmetry: float = 0) -> Points:
    """Vertices of one face.

    Args:
        actions: action unit -> intensity, 0 to 1; units left out are at rest.
        shape: float64 (len(SHAPE_UNITS),), in standard deviations; none is the mean face.
        asymmetry: -1 to 1; how much more strongly the right of the image moves than the left.

    Returns:
        float64 (vertices, 3), indexed by `CURVES`.
    """
    intensities = np.array([actions.get(unit, 0.0) for unit in ACTION_UNITS])
    moved = np.einsum("u,uvi->vi", intensities, _ACTIONS) * (1 + asymmetry * _SIDE)  # no BLAS: the same on any threads
    person = 0 if shape is None else np.einsum("u,uvi->vi", shape, _SHAPES)
    vertices: Points = MEAN + person + moved
    return vertices
