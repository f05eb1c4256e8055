"""A classifier in the ONNX format, run by ONNX Runtime on the CPU with little memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

from bisupervised.errors import InputError, MissingExtra, ModelError, ReplyUnreadable
from bisupervised.models.outputs import as_column, empty_output, matrix_of
from bisupervised.records import Evidence, FloatArray, ModelOutput

Feed: TypeAlias = np.ndarray[Any, Any] | Mapping[str, np.ndarray[Any, Any]]

_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
    "tensor(string)": object,
}


class OnnxModel:
    """Class probabilities (n, classes) from one output of an ONNX graph.

    `model` is a path, the bytes of a model file, or a session you made. `prepare` turns the list of n inputs
    into the feed: an array for the only graph input, or a mapping name -> array (default: an array of the
    declared type). `output` is the name or index of the output to read (default: the only one, or the one called
    `probabilities`). With `softmax=True` the output holds logits, which are evidence too; with `renormalise=True`
    each row is divided by its sum, for graphs that are quantised or rounded. `classes` names the columns (default:
    0, 1, …). `logits` and `features` name further outputs of the graph that are evidence: (n, classes), and an inner
    layer's (n, d).

    The session runs on the CPU with `threads` threads (default 1: a small model gains nothing from more, and
    a gateway runs several requests at a time) and without a memory arena, which would keep the largest batch's
    buffers for ever; `arena=True` trades memory for speed.
    """

    def __init__(
        self,
        model: str | Path | bytes | Any,
        classes: Sequence[Any] | None = None,
        *,
        prepare: Callable[[Sequence[Any]], Feed] | None = None,
        output: str | int | None = None,
        softmax: bool = False,
        renormalise: bool = False,
        logits: str | int | None = None,
        features: str | int | None = None,
        threads: int = 1,
        arena: bool = False,
        name: str | None = None,
        max_batch: int | None = None,
    ) -> None:
        self._session: Any = model
        if isinstance(model, str | Path | bytes):
            self._session = open_session(model, threads, arena)
        self.name = name or (Path(model).stem if isinstance(model, str | Path) else "onnx")
        self.classes = None if classes is None else list(classes)
        self._labels = None if classes is None else as_column(self.classes or ())
        self.max_batch = max_batch
        self._prepare = prepare
        self._softmax = softmax
        self._renormalise = renormalise
        self._input = self._session.get_inputs()[0]
        self._input_name: str = self._input.name
        inputs = [node.name for node in self._session.get_inputs()]
        if prepare is None and len(inputs) > 1:
            raise InputError(f"{self.name} has the inputs {', '.join(inputs)}: give prepare, which fills them all")
        self._output = _output_name(self._session, output, self.name)
        if softmax and logits is not None:
            raise InputError("with softmax=True the output holds the logits already: leave out logits=")
        further = {Evidence.LOGITS: logits, Evidence.FEATURES: features}
        self._further = {
            evidence: _output_name(self._session, one, self.name)
            for evidence, one in further.items()
            if one is not None
        }
        self._outputs = [self._output, *self._further.values()]
        self.provides = frozenset({Evidence.PROBABILITIES, *self._further, *([Evidence.LOGITS] if softmax else [])})

    def __repr__(self) -> str:
        return f"OnnxModel({self.name!r}, output={self._output!r})"

    def predict(self, inputs: Sequence[Any]) -> ModelOutput:
        """Probabilities and predictions of n inputs. Raises `ModelError` when ONNX Runtime does."""
        if len(inputs) == 0:
            return empty_output(self.provides, self.classes, width=self._width())  # as many as there are classes
        start = perf_counter()
        feed = self._feed(inputs)
        try:
            result, *more = self._session.run(self._outputs, feed)
        except Exception as error:  # the runtime's own exceptions have no public base
            raise ModelError(f"{self.name}: ONNX Runtime raised {type(error).__name__}: {error}") from error
        p = self._probabilities(result, len(inputs))
        if len(p) != len(inputs):
            raise ReplyUnreadable(f"{self.name} was given {len(inputs)} inputs and answered {len(p)}")
        labels = self._labels_of(p.shape[1])
        further: dict[str, Any] = {
            evidence.value: matrix_of(column, f"{self.name}: the output {self._further[evidence]!r}", len(p))
            for evidence, column in zip(self._further, more, strict=True)
        }
        if self._softmax:
            further["logits"] = result
        if "logits" in further and further["logits"].shape[1] != p.shape[1]:
            raise ReplyUnreadable(f"{self.name} gives {further['logits'].shape[1]} logits for {p.shape[1]} classes")
        return ModelOutput(
            predictions=labels[p.argmax(axis=1)],
            probabilities=p,
            classes=labels,
            **further,
            latency_s=np.full(len(p), (perf_counter() - start) / len(p)),
        )

    def _labels_of(self, width: int) -> np.ndarray[Any, Any]:
        if self._labels is None:
            self._labels = np.arange(width)
        if len(self._labels) != width:
            raise ModelError(f"{self.name} gives {width} probabilities for {len(self._labels)} classes")
        return self._labels

    def _feed(self, inputs: Sequence[Any]) -> Mapping[str, np.ndarray[Any, Any]]:
        if self._prepare is not None:
            prepared = self._prepare(inputs)
            return {self._input_name: prepared} if isinstance(prepared, np.ndarray) else _as_feed(prepared, self)
        dtype = _DTYPES.get(self._input.type)
        if dtype is None:
            raise InputError(f"{self.name} takes {self._input.type}: give prepare, which makes such an array")
        try:
            array = np.asarray(inputs, dtype=dtype)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{self.name} takes {self._input.type}, and the inputs do not convert ({error}): give prepare"
            ) from error
        if array.ndim == 1 and len(self._input.shape or ()) == 2:
            array = array.reshape(-1, 1)
        return {self._input.name: array}

    def _probabilities(self, result: Any, n: int) -> FloatArray:
        if not isinstance(result, np.ndarray) or result.dtype.kind not in "fiu":
            raise ReplyUnreadable(
                f"{self.name}: the output {self._output!r} is no array of numbers. Choose another output, or "
                f"export without a ZipMap (zipmap=False)"
            )
        p = result.astype(np.float64)
        if p.ndim != 2 or p.shape[1] < 2:
            raise ReplyUnreadable(
                f"{self.name}: the output {self._output!r} has the shape {p.shape}; one number for each of at "
                f"least two classes is needed, ({n}, classes)"
            )
        if not self._softmax and not self._renormalise:
            return p
        with np.errstate(invalid="ignore", divide="ignore"):  # a row without any mass becomes NaN: no evidence
            if self._softmax:
                p = np.exp(p - p.max(axis=1, keepdims=True))
            scaled: FloatArray = p / p.sum(axis=1, keepdims=True)
            return scaled

    def _width(self) -> int:
        node = next(node for node in self._session.get_outputs() if node.name == self._output)
        last = node.shape[-1] if node.shape else 0
        return last if isinstance(last, int) else 0


def _as_feed(prepared: Any, model: OnnxModel) -> Mapping[str, Any]:
    """What `prepare` gave for all inputs of the graph, or for the only one."""
    return prepared if isinstance(prepared, Mapping) else {model._input_name: prepared}


def open_session(model: str | Path | bytes, threads: int, arena: bool = False) -> Any:
    """A session on the CPU, as `OnnxModel` takes it. Raises `InputError` for what is no ONNX model."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "onnx") from error
    if threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    options.enable_mem_pattern = arena
    # Idle worker threads would otherwise burn a core each while they wait for the next batch.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exceptions have no public base
        what = "these bytes" if isinstance(model, bytes) else str(model)
        raise InputError(f"cannot load {what} as an ONNX model: {error}") from error


def _output_name(session: Any, output: str | int | None, model: str) -> str:
    names: list[str] = [node.name for node in session.get_outputs()]
    if output is None and (len(names) == 1 or "probabilities" in names):
        return names[0] if len(names) == 1 else "probabilities"
    if isinstance(output, int) and -len(names) <= output < len(names):
        return names[output]
    if isinstance(output, str) and output in names:
        return output
    asked = "more than one output" if output is None else f"no output {output!r}"
    raise InputError(f"{model} has {asked}; choose one with output=: {', '.join(names)}")
