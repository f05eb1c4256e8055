"""Recorded rows and a target -> thresholds and their evidence."""

from bisupervised.calibration.calibrate import calibrate_table, data_hash, judged_on, rows_to_judge, split_rows
from bisupervised.calibration.choice import Choice, Target
from bisupervised.calibration.targets import (
    BestAccuracy,
    FalseAlarmRate,
    LowestCost,
    RemoteEven,
    RequestBudget,
    target_by_name,
)
from bisupervised.calibration.thresholds import Thresholds
from bisupervised.calibration.within_limits import WithinLimits

__all__ = [
    "BestAccuracy",
    "Choice",
    "FalseAlarmRate",
    "LowestCost",
    "RemoteEven",
    "RequestBudget",
    "Target",
    "Thresholds",
    "WithinLimits",
    "calibrate_table",
    "data_hash",
    "judged_on",
    "rows_to_judge",
    "split_rows",
    "target_by_name",
]
