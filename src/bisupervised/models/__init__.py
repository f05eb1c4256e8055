"""Back ends and wrappers: input -> model output. One file each, loaded when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bisupervised.models.cache import RecordingCache
    from bisupervised.models.check import EvidenceCheck
    from bisupervised.models.circuit_breaker import CircuitBreaker
    from bisupervised.models.concurrency import Concurrency
    from bisupervised.models.ensemble import Ensemble
    from bisupervised.models.function import FunctionModel
    from bisupervised.models.http_json import HttpJsonModel
    from bisupervised.models.hugging_face import HuggingFaceModel
    from bisupervised.models.onnx import OnnxModel
    from bisupervised.models.open_inference import OpenInferenceModel
    from bisupervised.models.openai import OpenAIModel
    from bisupervised.models.port import Model
    from bisupervised.models.recorded import RecordedModel
    from bisupervised.models.retry import Retry
    from bisupervised.models.sklearn import SklearnModel
    from bisupervised.models.timeout import Timeout

__all__ = [
    "CircuitBreaker",
    "Concurrency",
    "Ensemble",
    "EvidenceCheck",
    "FunctionModel",
    "HttpJsonModel",
    "HuggingFaceModel",
    "Model",
    "OnnxModel",
    "OpenAIModel",
    "OpenInferenceModel",
    "RecordedModel",
    "RecordingCache",
    "Retry",
    "SklearnModel",
    "Timeout",
]

_FILE_OF = {
    "CircuitBreaker": "circuit_breaker",
    "Concurrency": "concurrency",
    "Ensemble": "ensemble",
    "EvidenceCheck": "check",
    "FunctionModel": "function",
    "HttpJsonModel": "http_json",
    "HuggingFaceModel": "hugging_face",
    "Model": "port",
    "OnnxModel": "onnx",
    "OpenAIModel": "openai",
    "OpenInferenceModel": "open_inference",
    "RecordedModel": "recorded",
    "RecordingCache": "cache",
    "Retry": "retry",
    "SklearnModel": "sklearn",
    "Timeout": "timeout",
}


def __getattr__(name: str) -> Any:
    if name in _FILE_OF:
        return getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
