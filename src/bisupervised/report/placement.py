"""Where labels stand in a figure: beside their points, on no other label, point or line. Geometry only, in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bisupervised.records import FloatArray


class Box(NamedTuple):
    """A rectangle, y upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def grown(self, margin: float) -> Box:
        return Box(self.left - margin, self.bottom - margin, self.right + margin, self.top + margin)


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What labels must keep clear of."""

    bounds: Box
    points: FloatArray  #: (k, 2) points that must stay visible: markers, and samples of the curves
    boxes: Sequence[Box] = ()  #: other labels


def place_labels(
    anchors: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], around: Surroundings
) -> list[Box]:
    """A box of the given (width, height) for each anchor, chosen one after the other.

    Of the places around each anchor, near ones first, the one that hides the least is taken.
    """
    taken = list(around.boxes)
    boxes = []
    for anchor, size in zip(anchors, sizes, strict=True):
        candidates = _candidates(anchor, size)
        costs = [_cost(box, distance, around, taken) for box, distance in candidates]
        box = candidates[int(np.argmin(costs))][0]
        taken.append(box)
        boxes.append(box)
    return boxes


_GAPS = (9.0, 18.0, 30.0, 46.0, 66.0, 90.0)
_HIDDEN = 100.0  # what a hidden point costs: more than the farthest place, so that a free one always wins
_DIRECTIONS = tuple(math.radians(degrees) for degrees in range(0, 360, 15))


def _candidates(anchor: tuple[float, float], size: tuple[float, float]) -> list[tuple[Box, float]]:
    """Boxes around the anchor: the gap is what lies between it and the box's edge or corner."""
    width, height = size
    found = []
    for gap in _GAPS:
        for angle in _DIRECTIONS:
            x = anchor[0] + math.cos(angle) * (gap + width / 2)
            y = anchor[1] + math.sin(angle) * (gap + height / 2)
            found.append((Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2), gap))
    return found


def _cost(box: Box, gap: float, around: Surroundings, taken: Sequence[Box]) -> float:
    wide = box.grown(4.0)
    overlap = sum(_shared_area(wide, other) for other in taken)
    x, y = around.points[:, 0], around.points[:, 1]
    hidden = np.count_nonzero((x >= wide.left) & (x <= wide.right) & (y >= wide.bottom) & (y <= wide.top))
    return _outside(box, around.bounds) * 1e4 + overlap * 1e2 + float(hidden) * _HIDDEN + gap


def _shared_area(one: Box, other: Box) -> float:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.top, other.top) - max(one.bottom, other.bottom)
    return width * height if width > 0.0 and height > 0.0 else 0.0


def _outside(box: Box, bounds: Box) -> float:
    """How far the box sticks out, in pixels."""
    return (
        max(bounds.left - box.left, 0.0)
        + max(box.right - bounds.right, 0.0)
        + max(bounds.bottom - box.bottom, 0.0)
        + max(box.top - bounds.top, 0.0)
    )
