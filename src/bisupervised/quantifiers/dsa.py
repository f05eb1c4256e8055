"""Distance-based surprise adequacy: nearer to the training rows of the predicted class than these are to others?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.arrays import (
    check_predicted,
    class_indices,
    features_of,
    fitting_rows,
    label_list,
    where_known,
)
from bisupervised.quantifiers.neighbours import TrainingRows
from bisupervised.quantifiers.port import CostClass
from bisupervised.quantifiers.products import read_only
from bisupervised.records import AnyArray, Evidence, FloatArray, IntArray, ModelOutput


@dataclass(frozen=True, slots=True, eq=False)
class DSA:
    """confidence = -||f - x|| / ||x - y||, at or below 0. Kim, Feldt & Yoo, ICSE 2019; Weiss et al., 2021.

    x is the training row nearest to the features f among those of the predicted class, y the one nearest to x among
    those of all other classes. The second distance is known of each training row beforehand, so that an input takes
    one search, in its own class. 0 / 0 counts as 1. A predicted class that no training row has gives NaN. Features
    are compared in single precision. Confidences of the rows that were fitted on are 0: calibrate on others.
    """

    features: AnyArray = field(repr=False)  #: (n, d) float32: the training rows, class by class
    bounds: IntArray = field(repr=False)  #: (classes + 1,) where each class begins, and the last ends
    to_others: FloatArray = field(repr=False)  #: (n,) the distance of each row to the nearest one of another class
    classes: tuple[Any, ...] = ()  #: the label of each class, as it is written
    name: ClassVar[str] = "dsa"
    needs: ClassVar[Evidence] = Evidence.FEATURES
    cost_class: ClassVar[CostClass] = CostClass.C2
    extra_calls: ClassVar[int] = 0
    _rows: TrainingRows = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows = TrainingRows(self.features)
        object.__setattr__(self, "features", rows.features)
        object.__setattr__(self, "bounds", read_only(self.bounds, np.int64))
        object.__setattr__(self, "to_others", read_only(self.to_others))
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "_rows", rows)

    def __call__(self, output: ModelOutput) -> FloatArray:
        features, known = features_of(output, self.features.shape[1])
        with np.errstate(over="ignore"):
            queries = features.astype(np.float32)
        known = known & np.isfinite(queries).all(axis=1)
        index = class_indices(self.classes, label_list(output))
        confidences = np.full(len(output), np.nan)
        for place in np.unique(index[known & (index >= 0)]).tolist():
            rows = np.flatnonzero(known & (index == place))
            among = slice(int(self.bounds[place]), int(self.bounds[place + 1]))
            near, nearest = self._rows.kth_nearest(queries[rows], among=among)
            confidences[rows] = 0.0 - _ratio(near, self.to_others[nearest])
        return where_known(known, confidences)

    @classmethod
    def fit(cls, output: ModelOutput, labels: Any = None) -> DSA:
        """From the features of training rows and their (n,) labels; by default the predictions, as Kim et al. do.

        Every training row is compared with every other, once. Raises `EvidenceError` for fewer than two classes, or
        when no prediction is among them.
        """
        rows = fitting_rows(output, labels)
        check_predicted(rows.classes, output)
        if len(rows.classes) < 2:
            raise EvidenceError(f"DSA compares classes, and the rows to fit on are all {rows.classes[0]!r}")
        order, bounds = rows.by_class()
        training = TrainingRows(rows.features[order])
        to_others = np.empty(len(training))
        for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            of_class = slice(start, stop)
            to_others[of_class] = training.kth_nearest(training.features[of_class], without=of_class)[0]
        return cls(training.features, bounds, to_others, rows.classes)


def _ratio(near: FloatArray, far: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((near == 0.0) & (far == 0.0), 1.0, near / far)
