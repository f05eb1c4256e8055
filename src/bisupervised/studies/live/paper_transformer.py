"""The paper's own small local models in NumPy: one transformer block over a vocabulary of 2,000 words.

Weights as plain arrays from the authors' saved models (Weiss & Tonella 2023, MIT). Lower-case ASCII, punctuation
stripped, split on white space, id = place in the vocabulary + 2 (0 pads, 1 is unknown), cut or padded to the number
of positions; token + position embedding, one post-norm block (Vaswani et al. 2017), the mean over all positions, a
dense relu, a dense softmax. The padding takes part, as in the authors' models.
"""

from __future__ import annotations

import re
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from bisupervised.errors import InputError
from bisupervised.models.outputs import as_column, empty_output
from bisupervised.records import AnyArray, BoolArray, Evidence, ModelOutput

_PUNCTUATION: Final = re.compile(r"""[!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']""")
_SPACE: Final = re.compile(r"[ \t\n\r\x0b\x0c]+")
_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}  # as TensorFlow does: ASCII alone
_ARRAYS: Final = frozenset(
    {"tok", "pos", *(f"{kind}{of}" for kind in "wb" for of in "qkvo")}
    | {f"{layer}{kind}" for layer in ("f1", "f2", "d1", "d2") for kind in "wb"}
    | {f"{layer}{kind}" for layer in ("ln1", "ln2") for kind in "gb"}
)
#: Keras' usual rate; the rate of the authors' training is not published.
DROPOUT: Final = 0.1


class PaperTransformer:
    """Class probabilities, logits, and the dense layer before them as features.

    `read` gives the text of an input (default: it is one). With `passes` > 0 also `sampled_probabilities`
    (n, passes, classes): so many passes with dropout before and after the dense layer, as Monte Carlo dropout (Gal &
    Ghahramani 2016) does. The rate 0.1 is ours, Keras' usual one. What is dropped depends on `seed` and the text's
    tokens alone, so that an input has the same samples in every order and after every interruption. Their time is not
    part of the latency, and their processor seconds are counted in `passes_cpu_s`. Raises `InputError` for a file
    that holds no such weights, or those of another number of classes.
    """

    max_batch: int | None = None

    def __init__(
        self,
        path: Path,
        classes: Sequence[Any],
        *,
        read: Callable[[Any], str] = str,
        passes: int = 0,
        seed: int = 0,
    ) -> None:
        if passes < 0:
            raise InputError(f"passes must be at least 0, not {passes}")
        self._weights, vocabulary = _read_weights(path)
        self.name = path.stem.removesuffix("_weights")
        self.classes = as_column(classes)
        if len(self.classes) != len(self._weights["d2b"]):
            raise InputError(f"{path} has {len(self._weights['d2b'])} classes, not {len(self.classes)}")
        self.passes = passes
        self.passes_cpu_s = 0.0
        self.length = len(self._weights["pos"])
        self._ids = {word: place + 2 for place, word in enumerate(vocabulary)}
        self._read = read
        self._seed = seed
        samples = {Evidence.SAMPLED_PROBABILITIES} if passes else set()
        self.provides = frozenset({Evidence.PROBABILITIES, Evidence.LOGITS, Evidence.FEATURES} | samples)

    def __repr__(self) -> str:
        return f"PaperTransformer({self.name!r}, {len(self.classes)} classes, passes={self.passes})"

    def words(self, x: Any) -> list[str]:
        """What is left of an input's text: its words in lower case, without punctuation."""
        return [word for word in _SPACE.split(_PUNCTUATION.sub("", self._read(x).translate(_LOWER))) if word]

    def is_cut(self, inputs: Sequence[Any]) -> BoolArray:
        """(n,) whether an input has more words than the model has positions."""
        return np.array([len(self.words(x)) > self.length for x in inputs], dtype=np.bool_)

    def predict(self, inputs: Sequence[Any]) -> ModelOutput:
        """The output for n inputs."""
        if len(inputs) == 0:
            return empty_output(self.provides, self.classes.tolist())
        start = time.perf_counter()
        ids = np.array([self._encoded(x) for x in inputs])
        pooled = self._pooled(ids)
        dense = np.maximum(pooled @ self._weights["d1w"] + self._weights["d1b"], 0.0)
        logits = dense @ self._weights["d2w"] + self._weights["d2b"]
        p = _softmax(logits)
        latency_s = (time.perf_counter() - start) / len(inputs)
        return ModelOutput(
            predictions=self.classes[p.argmax(axis=1)],
            probabilities=p,
            classes=self.classes,
            logits=logits,
            features=dense,
            sampled_probabilities=self._sampled(ids, pooled) if self.passes else None,
            latency_s=np.full(len(inputs), latency_s),
        )

    def _encoded(self, x: Any) -> list[int]:
        ids = [self._ids.get(word, 1) for word in self.words(x)[: self.length]]
        return ids + [0] * (self.length - len(ids))

    def _pooled(self, ids: AnyArray) -> AnyArray:
        """(n, width) the mean over the positions of the block's output."""
        w = self._weights
        x = w["tok"][ids] + w["pos"][None]
        q, k, v = (np.einsum("nld,dhk->nhlk", x, w[f"w{a}"]) + w[f"b{a}"][None, :, None] for a in "qkv")
        scores = _softmax((q / np.sqrt(np.float32(q.shape[-1]))) @ k.swapaxes(-1, -2))
        attended = np.einsum("nhlk,hkd->nld", scores @ v, w["wo"]) + w["bo"]
        x = _normed(x + attended, w["ln1g"], w["ln1b"])
        forward = np.maximum(x @ w["f1w"] + w["f1b"], 0.0) @ w["f2w"] + w["f2b"]
        pooled: AnyArray = _normed(x + forward, w["ln2g"], w["ln2b"]).mean(axis=1)
        return pooled

    def _sampled(self, ids: AnyArray, pooled: AnyArray) -> AnyArray:
        start = time.process_time()
        w = self._weights
        before, after = (
            np.stack(kept) for kept in zip(*(self._kept(row, w["d1w"].shape) for row in ids), strict=True)
        )
        dense = np.maximum((pooled[:, None] * before) @ w["d1w"] + w["d1b"], 0.0)
        samples = _softmax((dense * after) @ w["d2w"] + w["d2b"])
        self.passes_cpu_s += time.process_time() - start
        return samples

    def _kept(self, ids: AnyArray, shape: tuple[int, ...]) -> tuple[AnyArray, AnyArray]:
        """What every pass makes of the activations before and after the dense layer, (passes, width) each: 0, or
        scaled up for those that are dropped."""
        rng = np.random.default_rng([self._seed, zlib.crc32(ids.astype(np.int64).tobytes())])
        before, after = ((rng.random((self.passes, width)) >= DROPOUT) / (1.0 - DROPOUT) for width in shape)
        return before, after


def _read_weights(path: Path) -> tuple[dict[str, AnyArray], list[str]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            weights = {name: file[name] for name in file.files if name != "vocab"}
            vocabulary: list[str] = file["vocab"].tolist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} holds no weights of the paper's transformers: {error}") from error
    if lacking := sorted(_ARRAYS - set(weights)):
        raise InputError(f"{path} lacks the arrays {', '.join(lacking)} of the paper's transformers")
    return weights, vocabulary


def _softmax(x: AnyArray) -> AnyArray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    p: AnyArray = e / e.sum(axis=-1, keepdims=True)
    return p


def _normed(x: AnyArray, gain: AnyArray, bias: AnyArray) -> AnyArray:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    normed: AnyArray = (x - mean) / np.sqrt(variance + 1e-6) * gain + bias
    return normed


def cpu_s(model: Any) -> float:
    """This process's processor seconds without those of a model's further passes."""
    return time.process_time() - float(model.passes_cpu_s)
