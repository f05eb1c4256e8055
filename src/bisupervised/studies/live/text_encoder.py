"""A text encoder in the ONNX format with its tokenizer: a classifier as `train_encoder` writes it, or another of that form.

The folder holds `tokenizer.json`, `model_int8.onnx` or `model.onnx` with the inputs `input_ids` and `attention_mask`, and
`config.json`: `classes`, `max_length` in tokens, and the names of the graph's `outputs`, `logits` and `features`, or
`probabilities`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.errors import InputError, MissingExtra
from bisupervised.models.onnx import OnnxModel
from bisupervised.records import AnyArray, BoolArray

FILES = ("model_int8.onnx", "model.onnx")


class Tokenizer:
    """Texts to the input of an encoder: token ids and mask, cut at `max_length` tokens."""

    def __init__(self, path: Path, max_length: int) -> None:
        try:
            from tokenizers import Tokenizer as Loaded
        except ImportError as error:
            raise MissingExtra("tokenizers", "studies") from error
        try:
            self._tokenizer = Loaded.from_file(str(path))
        except Exception as error:  # the library raises bare exceptions
            raise InputError(f"{path} is no tokenizer: {error}") from error
        self._tokenizer.enable_truncation(max_length)
        self._tokenizer.no_padding()

    def __call__(self, texts: Sequence[Any]) -> Mapping[str, AnyArray]:
        encodings = self._tokenizer.encode_batch([str(text) for text in texts])
        width = max(len(encoding.ids) for encoding in encodings)
        ids = np.zeros((len(encodings), width), dtype=np.int64)
        mask = np.zeros((len(encodings), width), dtype=np.int64)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def is_cut(self, texts: Sequence[str]) -> BoolArray:
        """(n,) whether a text has more tokens than are read."""
        return np.array([bool(encoding.overflowing) for encoding in self._tokenizer.encode_batch(list(texts))])

    def counts(self, texts: Sequence[str]) -> AnyArray:
        """(n,) tokens of each text, all of them."""
        encodings = self._tokenizer.encode_batch(list(texts))
        return np.array([len(e.ids) + sum(len(over.ids) for over in e.overflowing) for e in encodings], dtype=float)


def encoder_config(folder: Path) -> dict[str, Any]:
    """What `config.json` says. Raises `InputError` for a file that is none."""
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {"classes": list(config["classes"]), "max_length": int(config["max_length"]), **config}
    except FileNotFoundError as error:
        raise InputError(f"there is no {path}: an encoder's folder has one, see text_encoder.py") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not describe an encoder: {error}") from error


def tokenizer_of(folder: Path) -> Tokenizer:
    """The tokenizer of a folder."""
    return Tokenizer(folder / "tokenizer.json", encoder_config(folder)["max_length"])


def text_encoder(folder: Path, *, threads: int = 1, name: str | None = None) -> OnnxModel:
    """The classifier in a folder."""
    config = encoder_config(folder)
    path = next((folder / one for one in FILES if (folder / one).exists()), None)
    if path is None:
        raise InputError(f"{folder} holds neither {' nor '.join(FILES)}")
    outputs = config.get("outputs", {})
    logits = "logits" in outputs
    return OnnxModel(
        path,
        classes=config["classes"],
        prepare=tokenizer_of(folder),
        output=outputs.get("logits") or outputs.get("probabilities"),
        softmax=logits,
        features=outputs.get("features"),
        threads=threads,
        name=name or folder.name,
    )
