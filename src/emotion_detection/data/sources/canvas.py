"""Two layers on which the curves of one face are drawn by name.

    canvas = Canvas(background, points, size)         # points: float64 (vertices, 2), pixels of the output
    canvas.fill((80, 120, 200), "jaw", "skull")
    canvas.shade_line(0.4, "forehead_1")
    canvas.bake()
    pixels = canvas.finished()                  # uint8 (S, S, 3), BGR

Colours are painted at twice the size of the output. Soft shadows and wrinkles go to a second layer of single size,
which `bake` blurs and multiplies on.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_detection.data.sources.action_units import CURVES, Points

Pixels = NDArray[np.uint8]
FixedPoints = NDArray[np.int32]
Colour = tuple[float, float, float]  # BGR, 0 to 255

SUPERSAMPLING = 2
FRACTION_BITS = 4  # of the fixed-point coordinates that OpenCV takes
_NEUTRAL_SHADE = 128
_FAINTEST = 0.03  # wrinkles below this strength are not drawn


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with a share of `second`, 0 to 1."""
    return tuple(a + (b - a) * share for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


class Canvas:
    """One picture in the making.

    Args:
        background: uint8 (any, any, 3), BGR; enlarged to fill the picture.
        points: float64 (vertices, 2), pixels of the output.
        size: side S of the output, pixels.
    """

    def __init__(self, background: Pixels, points: Points, size: int) -> None:
        self.points = points
        self.unit = float(np.linalg.norm(points[CURVES["skull"]][0] - points[CURVES["skull"]][-1])) / 1.6
        """Pixels of the output per unit of the face's geometry."""
        self.colours = cv2.resize(background, (size * SUPERSAMPLING, size * SUPERSAMPLING)).astype(np.uint8, copy=False)
        self.shade = np.full((size, size), _NEUTRAL_SHADE, np.uint8)
        self._fine = self.fixed(points)
        self._coarse = np.rint(points * 2**FRACTION_BITS).astype(np.int32)

    @staticmethod
    def fixed(points: Points) -> FixedPoints:
        """Output pixels -> fixed-point coordinates on the colour layer."""
        fixed: FixedPoints = np.rint(points * (SUPERSAMPLING * 2**FRACTION_BITS)).astype(np.int32)
        return fixed

    def moved(self, point: Points, right: float, down: float) -> Points:
        """A point of the output, moved by units of the face."""
        return point + np.array([right, down]) * self.unit

    def curve(self, name: str) -> FixedPoints:
        """Fixed-point vertices (n, 2) on the colour layer."""
        return self._fine[CURVES[name]]

    def fill(self, colour: Colour, *curves: str) -> None:
        """Fill the polygon that the curves enclose one after the other; "-name" is walked backwards."""
        self.fill_polygon(colour, _joined(self._fine, curves))

    def fill_polygon(self, colour: Colour, polygon: FixedPoints) -> None:
        cv2.fillPoly(self.colours, [polygon], colour, cv2.LINE_AA, FRACTION_BITS)

    def line(self, colour: Colour, curve: str, width: float) -> None:
        """Draw an open line; `width` in units of the face."""
        self.polyline(colour, [self._fine[CURVES[curve]]], width)

    def polyline(self, colour: Colour, lines: list[FixedPoints], width: float, closed: bool = False) -> None:
        thickness = max(1, round(width * self.unit * SUPERSAMPLING))
        cv2.polylines(self.colours, lines, closed, colour, thickness, cv2.LINE_8, FRACTION_BITS)

    def disc(self, colour: Colour, centre: Points, radius: float) -> None:
        """`centre`: output pixels; `radius`: units of the face."""
        x, y = self.fixed(centre).tolist()
        across = round(radius * self.unit * SUPERSAMPLING * 2**FRACTION_BITS)
        cv2.circle(self.colours, (x, y), across, colour, -1, cv2.LINE_AA, FRACTION_BITS)

    def shade_area(self, gain: float, *curves: str) -> None:
        """Make a region darker (gain below 1) or lighter (above)."""
        polygon = _joined(self._coarse, curves)
        cv2.fillPoly(self.shade, [polygon], (gain * _NEUTRAL_SHADE,), cv2.LINE_AA, FRACTION_BITS)

    def shade_line(self, strength: float, *curves: str, width: float = 0.02) -> None:
        """Draw wrinkles; a strength of 1 would be black."""
        if strength > _FAINTEST:
            lines = [self._coarse[CURVES[name]] for name in curves]
            level, thickness = ((1 - strength) * _NEUTRAL_SHADE,), max(1, round(width * self.unit))
            cv2.polylines(self.shade, lines, False, level, thickness, cv2.LINE_AA, FRACTION_BITS)

    def bake(self) -> None:
        """Put the shadows onto the colours; what is drawn afterwards lies above them."""
        height, width = self.colours.shape[:2]
        soft = cv2.GaussianBlur(self.shade, (0, 0), max(0.3, 0.022 * self.unit))
        wide = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
        cv2.multiply(self.colours, cv2.merge([wide, wide, wide]), dst=self.colours, scale=1 / _NEUTRAL_SHADE)

    def finished(self) -> Pixels:
        """The colours at the size of the output: uint8 (S, S, 3)."""
        return cv2.resize(self.colours, self.shade.shape, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _joined(points: FixedPoints, curves: tuple[str, ...]) -> FixedPoints:
    parts = [points[CURVES[name[1:]]][::-1] if name[0] == "-" else points[CURVES[name]] for name in curves]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
