"""Photographs as the inputs of image classifiers, and the classifiers that read them: file bytes in, classes out.

Pillow alone opens the files. Each classifier's own preparation matters: a photograph prepared in another way than in
training costs points of accuracy.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.errors import InputError, MissingExtra
from bisupervised.models.onnx import OnnxModel
from bisupervised.models.outputs import empty_output
from bisupervised.records import AnyArray, Evidence, ModelOutput, concatenate_outputs

#: ImageNet's 1,000 classes, by number.
CLASSES = list(range(1000))


def opened(photograph: bytes) -> Any:
    """The image as RGB. Raises `InputError` for bytes that are no image."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtra("pillow", "studies") from error
    try:
        return Image.open(io.BytesIO(photograph)).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"these {len(photograph)} bytes are no image that can be opened: {error}") from error


def for_mobilenet(image: Any, size: int) -> AnyArray:
    """(size, size, 3) uint8: the whole image, resized bilinearly."""
    return np.asarray(image.resize((size, size), resample=2), dtype=np.uint8)


def for_efficientnet_lite(image: Any, size: int = 260) -> AnyArray:
    """(3, size, size) float32: shorter side to size / .875 (bicubic), centre crop, (x - 127) / 128."""
    shorter = round(size / 0.875)
    scale = shorter / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), resample=3)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    x = np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.float32)
    return np.ascontiguousarray(((x - 127.0) / 128.0).transpose(2, 0, 1))


def views(image: Any) -> list[Any]:
    """The image seen in four other ways: mirrored, and three crops of nine tenths."""
    from PIL import Image

    w, h = image.size
    dw, dh = w // 10, h // 10
    crops = ((0, 0, w - dw, h - dh), (dw, dh, w, h), (dw // 2, dh // 2, w - dw // 2, h - dh // 2))
    return [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), *(image.crop(box) for box in crops)]


class PhotographModel:
    """An ONNX classifier of photographs' file bytes, one at a time.

    With `passes`, the four other `views` of each photograph are classified too: `sampled_probabilities` (n, 5, classes).
    Their time is not part of the latency; their processor seconds are counted in `passes_cpu_s`.
    """

    max_batch: int | None = 1

    def __init__(self, model: OnnxModel, prepare: Callable[[Any], AnyArray], *, passes: bool = False) -> None:
        self.name = model.name
        self.passes_cpu_s = 0.0
        self._model = model
        self._prepare = prepare
        self._passes = passes
        samples = {Evidence.SAMPLED_PROBABILITIES} if passes else set()
        self.provides = frozenset(model.provides | samples)

    def predict(self, inputs: Sequence[Any]) -> ModelOutput:
        """The output for n photographs."""
        if len(inputs) == 0:
            return empty_output(self.provides, CLASSES)
        return concatenate_outputs([self._one(photograph) for photograph in inputs])

    def _one(self, photograph: bytes) -> ModelOutput:
        start = time.perf_counter()
        image = opened(photograph)
        output = self._model.predict([self._prepare(image)])
        output = replace(output, latency_s=np.array([time.perf_counter() - start]))
        if not self._passes:
            return output
        before = time.process_time()
        others = [self._model.predict([self._prepare(view)]) for view in views(image)]
        every = [one.probabilities for one in (output, *others)]
        output = replace(output, sampled_probabilities=np.stack(every, axis=1))
        self.passes_cpu_s += time.process_time() - before
        return output


def mobilenet(path: Path, *, passes: bool = False) -> PhotographModel:
    """A quantised MobileNet: uint8 in, uint8 out (p = q / 256, the first of 1,001 classes is none)."""
    graph, features = with_pooled(path)
    model = OnnxModel(graph, name=path.stem, output=0, renormalise=True, prepare=np.stack, features=features)
    shape = model._session.get_inputs()[0].shape
    return PhotographModel(
        _WithoutBackground(model), lambda image: for_mobilenet(image, int(shape[1])), passes=passes
    )


class _WithoutBackground(OnnxModel):
    """The 1,001 outputs of a MobileNet as ImageNet's 1,000 classes."""

    def __init__(self, model: OnnxModel) -> None:
        self.__dict__.update(model.__dict__)

    def _probabilities(self, result: Any, n: int) -> Any:
        return super()._probabilities(result[:, 1:], n)


def efficientnet_lite(path: Path) -> PhotographModel:
    """EfficientNet-lite2: 260 x 260, softmax included."""
    graph, features = with_pooled(path)
    model = OnnxModel(graph, CLASSES, name=path.stem, output=0, prepare=np.stack, renormalise=True, features=features)
    return PhotographModel(model, for_efficientnet_lite)


def with_pooled(path: Path) -> tuple[Any, str | None]:
    """(model, the name of its pooled features): the graph with the last pooling as a further output.

    That takes the package `onnx`; without it, or without a pooling of rank 4 or 2 in the graph, the graph as it is, and
    None: supervisors that need features are then not tried.
    """
    try:
        import onnx
    except ImportError:
        return path, None
    graph = onnx.load(str(path))
    pools = [node for node in graph.graph.node if node.op_type in _POOLS]
    if not pools:
        return path, None
    name = pools[-1].output[0]
    inferred = onnx.shape_inference.infer_shapes(graph)
    given = [value for value in inferred.graph.value_info if value.name == name]
    if not given:
        return path, None
    graph.graph.output.append(given[0])
    return graph.SerializeToString(), name


_POOLS = ("GlobalAveragePool", "AveragePool", "QLinearGlobalAveragePool", "QLinearAveragePool", "ReduceMean")
