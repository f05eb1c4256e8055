"""A small local model first, a large remote one where it pays, and a supervisor on each.

    from bisupervised import BiSupervised, FunctionModel, Level, Supervisor, calibrate, evaluate, read_table

The names below are the public ones; each is loaded when it is first used, and needs NumPy alone unless its file
says otherwise.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bisupervised.assessment import Assessment, calibrate, calibrate_by_group, compare, evaluate
    from bisupervised.calibration import (
        BestAccuracy,
        FalseAlarmRate,
        LowestCost,
        RemoteEven,
        RequestBudget,
        Thresholds,
        WithinLimits,
    )
    from bisupervised.cascade import BiSupervised, Level, replay
    from bisupervised.config import load_config
    from bisupervised.decision_log import DecisionLog, PendingInputs
    from bisupervised.errors import BiSupervisedError, ModelError, PredictionRejected
    from bisupervised.fallback import Call, Default, HandOver, LocalUntrusted, Raise
    from bisupervised.fitting import fit_confidence_calibration, fit_quantifier
    from bisupervised.learned import learn_on_a_part, save_beside, supervisors_of
    from bisupervised.models import (
        Concurrency,
        Ensemble,
        FunctionModel,
        HttpJsonModel,
        OnnxModel,
        OpenAIModel,
        RecordedModel,
        RecordingCache,
        Retry,
        SklearnModel,
        Timeout,
    )
    from bisupervised.monitoring import drift, reference_of
    from bisupervised.probability_calibration import (
        BetaCalibration,
        IsotonicCalibration,
        TemperatureScaling,
        VennAbers,
    )
    from bisupervised.quantifiers import (
        DeepGini,
        GivenConfidence,
        LabelProbability,
        MaxSoftmax,
        PredictionConfidenceScore,
        SoftmaxEntropy,
        TokenLikelihood,
        quantifier_from_file,
    )
    from bisupervised.recording import record
    from bisupervised.records import ModelOutput, Outcome, Outcomes, Reason, Route
    from bisupervised.sources import read_table, write_table
    from bisupervised.supervisor import Supervisor
    from bisupervised.table import Table

__version__ = "0.1.0"

_MODULE_OF = {
    "Assessment": "assessment",
    "BestAccuracy": "calibration",
    "BetaCalibration": "probability_calibration",
    "BiSupervised": "cascade",
    "BiSupervisedError": "errors",
    "Call": "fallback",
    "Concurrency": "models",
    "DecisionLog": "decision_log",
    "DeepGini": "quantifiers",
    "Default": "fallback",
    "Ensemble": "models",
    "FalseAlarmRate": "calibration",
    "FunctionModel": "models",
    "GivenConfidence": "quantifiers",
    "HandOver": "fallback",
    "HttpJsonModel": "models",
    "IsotonicCalibration": "probability_calibration",
    "LabelProbability": "quantifiers",
    "Level": "cascade",
    "LocalUntrusted": "fallback",
    "LowestCost": "calibration",
    "MaxSoftmax": "quantifiers",
    "ModelError": "errors",
    "ModelOutput": "records",
    "OnnxModel": "models",
    "OpenAIModel": "models",
    "Outcome": "records",
    "Outcomes": "records",
    "PendingInputs": "decision_log",
    "PredictionConfidenceScore": "quantifiers",
    "PredictionRejected": "errors",
    "Raise": "fallback",
    "Reason": "records",
    "RecordedModel": "models",
    "RecordingCache": "models",
    "RemoteEven": "calibration",
    "RequestBudget": "calibration",
    "Retry": "models",
    "Route": "records",
    "SklearnModel": "models",
    "SoftmaxEntropy": "quantifiers",
    "Supervisor": "supervisor",
    "Table": "table",
    "TemperatureScaling": "probability_calibration",
    "Thresholds": "calibration",
    "Timeout": "models",
    "TokenLikelihood": "quantifiers",
    "VennAbers": "probability_calibration",
    "WithinLimits": "calibration",
    "calibrate": "assessment",
    "calibrate_by_group": "assessment",
    "compare": "assessment",
    "drift": "monitoring",
    "evaluate": "assessment",
    "fit_confidence_calibration": "fitting",
    "fit_quantifier": "fitting",
    "learn_on_a_part": "learned",
    "load_config": "config",
    "quantifier_from_file": "quantifiers",
    "read_table": "sources",
    "record": "recording",
    "reference_of": "monitoring",
    "replay": "cascade",
    "save_beside": "learned",
    "supervisors_of": "learned",
    "write_table": "sources",
}

__all__ = [
    "Assessment",
    "BestAccuracy",
    "BetaCalibration",
    "BiSupervised",
    "BiSupervisedError",
    "Call",
    "Concurrency",
    "DecisionLog",
    "DeepGini",
    "Default",
    "Ensemble",
    "FalseAlarmRate",
    "FunctionModel",
    "GivenConfidence",
    "HandOver",
    "HttpJsonModel",
    "IsotonicCalibration",
    "LabelProbability",
    "Level",
    "LocalUntrusted",
    "LowestCost",
    "MaxSoftmax",
    "ModelError",
    "ModelOutput",
    "OnnxModel",
    "OpenAIModel",
    "Outcome",
    "Outcomes",
    "PendingInputs",
    "PredictionConfidenceScore",
    "PredictionRejected",
    "Raise",
    "Reason",
    "RecordedModel",
    "RecordingCache",
    "RemoteEven",
    "RequestBudget",
    "Retry",
    "Route",
    "SklearnModel",
    "SoftmaxEntropy",
    "Supervisor",
    "Table",
    "TemperatureScaling",
    "Thresholds",
    "Timeout",
    "TokenLikelihood",
    "VennAbers",
    "WithinLimits",
    "calibrate",
    "calibrate_by_group",
    "compare",
    "drift",
    "evaluate",
    "fit_confidence_calibration",
    "fit_quantifier",
    "learn_on_a_part",
    "load_config",
    "quantifier_from_file",
    "read_table",
    "record",
    "reference_of",
    "replay",
    "save_beside",
    "supervisors_of",
    "write_table",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"bisupervised.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
