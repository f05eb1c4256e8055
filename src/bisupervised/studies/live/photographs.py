"""Photographs as the inputs of image classifiers, and the classifiers that read them: file bytes in, classes out.

Pillow alone opens the files. The logits before the softmax and the pooled features before the last layer are made
outputs of the graphs (`onnx_outputs.py`). Each classifier's own preparation matters: a photograph prepared in another
way than in training costs points of accuracy.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.errors import InputError, MissingExtra
from bisupervised.models.onnx import OnnxModel
from bisupervised.models.outputs import empty_output
from bisupervised.records import AnyArray, Evidence, ModelOutput, concatenate_outputs
from bisupervised.studies.live.onnx_outputs import with_outputs

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

    With `passes`, the four other `views` of each photograph are classified too: `sampled_probabilities`
    (n, 5, classes), the photograph itself first. Their time is not part of the latency; their processor seconds are
    counted in `passes_cpu_s`.
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
        every = [np.asarray(one.probabilities) for one in (output, *others)]
        output = replace(output, sampled_probabilities=np.stack(every, axis=1))
        self.passes_cpu_s += time.process_time() - before
        return output


def mobilenet(path: Path, *, passes: bool = False) -> PhotographModel:
    """A quantised MobileNet: uint8 in, and 1,001 classes of which the first is none.

    Its probabilities come from the logits of its graph: those it gives itself are rounded to 1/256, which makes 97 %
    of them 0 and many confidences equal.
    """
    model = _WithoutBackground(_with_inner(path), name=path.stem, prepare=np.stack, **_inner(path))
    shape = model._session.get_inputs()[0].shape
    return PhotographModel(model, lambda image: for_mobilenet(image, int(shape[1])), passes=passes)


def efficientnet_lite(path: Path) -> PhotographModel:
    """EfficientNet-lite2: 260 x 260."""
    model = OnnxModel(_with_inner(path), CLASSES, name=path.stem, prepare=np.stack, **_inner(path))
    return PhotographModel(model, for_efficientnet_lite)


class _WithoutBackground(OnnxModel):
    """The 1,001 outputs of a MobileNet as ImageNet's 1,000 classes."""

    def predict(self, inputs: Sequence[Any]) -> ModelOutput:
        output = super().predict(inputs)
        assert output.probabilities is not None
        assert output.logits is not None
        p = output.probabilities[:, 1:]
        return replace(
            output,
            predictions=p.argmax(axis=1),
            probabilities=p / p.sum(axis=1, keepdims=True),
            logits=output.logits[:, 1:],
            classes=np.array(CLASSES),
        )


_V1 = (
    "MobilenetV1/Logits/Conv2d_1c_1x1/BiasAdd;MobilenetV1/Logits/Conv2d_1c_1x1/Conv2D;"
    "MobilenetV1/Logits/Conv2d_1c_1x1/biases1_prequant__449_DequantizeLinear__{}:0"
)
_V2 = (
    "MobilenetV2/Logits/Conv2d_1c_1x1/BiasAdd;MobilenetV2/Logits/Conv2d_1c_1x1/Conv2D;"
    "MobilenetV2/Logits/Conv2d_1c_1x1/biases1_prequant__821_DequantizeLinear__969:0"
)
#: (logits, pooled features before the last layer): what these tensors are called inside each model file.
INNER: Mapping[str, tuple[str, str]] = {
    "mobilenet_v1_0.5_160_quant": ("MobilenetV1/Logits/SpatialSqueeze1_dequant", _V1.format(528)),
    "mobilenet_v1_0.75_192_quant": ("MobilenetV1/Logits/SpatialSqueeze1_dequant", _V1.format(532)),
    "mobilenet_v2_1.0_224_quant": ("MobilenetV2/Logits/Squeeze1_dequant", _V2),
    "efficientnet_lite2": ("/0/_fc/Gemm_output_0", "/0/Reshape_output_0"),
}


def _inner(path: Path) -> dict[str, Any]:
    if path.stem not in INNER:
        raise InputError(f"the inner layers of {path.name} are not known; known are {', '.join(INNER)}")
    logits, features = INNER[path.stem]
    return {"output": logits, "softmax": True, "features": features}


def _with_inner(path: Path) -> bytes:
    _inner(path)
    try:
        return with_outputs(path.read_bytes(), INNER[path.stem])
    except OSError as error:
        raise InputError(f"cannot read the model file {path}: {error}") from error
