"""ImageNet: 1,000 photographs. A quantised MobileNet in this process, and EfficientNet-lite2 behind HTTP."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from bisupervised.studies.live.model_server import served
from bisupervised.studies.live.paper_transformer import cpu_s
from bisupervised.studies.live.photographs import CLASSES, mobilenet
from bisupervised.studies.live.sources import found
from bisupervised.studies.live.study import LiveStudy, RunningModel, Source


def imagenet(data: Path, models: Path, *, limit: int | None = None) -> LiveStudy:
    """The study on all photographs, or the first `limit` of a fixed order."""
    listed, small, large = sources = _sources(data)
    with found(listed).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))][:limit]
    folder = listed.path.parent / "images"

    @contextmanager
    def local() -> Iterator[RunningModel]:
        model = mobilenet(found(small), passes=True)
        yield RunningModel(model, partial(cpu_s, model))

    @contextmanager
    def remote() -> Iterator[RunningModel]:
        with served("efficientnet_lite", found(large), CLASSES) as running:
            yield running

    return LiveStudy(
        name="imagenet",
        title="ImageNet: photographs of 1,000 classes",
        paper_names=("ImageNet",),
        objective="accuracy",
        inputs=[(folder / row["file"]).read_bytes() for row in rows],
        ids=[row["file"].removesuffix(".jpg") for row in rows],
        labels=[int(row["label_0based"]) for row in rows],
        local=local,
        remote=remote,
        sources=sources,
        cross_fitted=True,
        notes=("1,000 photographs of 430 classes, easier than ImageNet's validation set",),
    )


def _sources(data: Path) -> tuple[Source, Source, Source]:
    return (
        Source(
            "1,000 photographs with ImageNet's labels",
            data / "images" / "images.csv",
            "the development set of the NIPS 2017 competition on adversarial attacks; authors named in the file",
            "CC BY 2.0, each by its author",
            "the competition's list (cleverhans repository) names every photograph's address and label",
        ),
        Source(
            "MobileNetV1 0.5, 160 pixels, quantised",
            data / "models" / "images" / "mobilenet_v1_0.5_160_quant.onnx",
            "Howard et al. 2017; TensorFlow's hosted models, converted to ONNX",
            "Apache-2.0",
            "TensorFlow Lite's hosted models, converted with tf2onnx",
        ),
        Source(
            "EfficientNet-lite2",
            data / "models" / "images" / "efficientnet_lite2.onnx",
            "Tan & Le 2019; TensorFlow's hosted models, converted to ONNX",
            "Apache-2.0",
            "TensorFlow's EfficientNet-lite models, converted with tf2onnx",
        ),
    )
