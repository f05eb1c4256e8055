"""Labels keep clear of each other, of points and of the frame where there is room."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from bisupervised.report.placement import Box, Surroundings, place_labels

FRAME = Box(0, 0, 600, 400)


def overlaps(a: Box, b: Box) -> bool:
    return a.left < b.right and b.left < a.right and a.bottom < b.top and b.bottom < a.top


@given(st.lists(st.tuples(st.floats(0, 600), st.floats(0, 400)), min_size=1, max_size=4))
@example([(76.0, 11.0), (0.0, 0.0), (0.0, 0.0)])
def test_a_few_labels_stay_in_the_frame_and_apart(anchors: list[tuple[float, float]]) -> None:
    around = Surroundings(FRAME, np.array(anchors))
    boxes = place_labels(anchors, [(80.0, 14.0)] * len(anchors), around)
    assert all(box.left >= -1e-6 and box.right <= 600 + 1e-6 for box in boxes)
    assert all(box.bottom >= -1e-6 and box.top <= 400 + 1e-6 for box in boxes)
    assert not any(overlaps(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert not any(box.left < x < box.right and box.bottom < y < box.top for box in boxes for x, y in anchors)


def test_a_label_avoids_what_is_already_there() -> None:
    taken = Box(300, 190, 600, 210)
    (box,) = place_labels([(295.0, 200.0)], [(60.0, 14.0)], Surroundings(FRAME, np.empty((0, 2)), [taken]))
    assert not overlaps(box, taken)
