"""A text encoder in the ONNX format with its tokenizer: a classifier as `train_encoder` writes it, or one like it.

The folder holds `tokenizer.json`, `model_int8.onnx` or `model.onnx` with the inputs `input_ids` and `attention_mask`,
and `config.json`: `classes`, `max_length` in tokens, and the names of the graph's `outputs`, `logits` and `features`,
or `probabilities`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bisupervised.errors import InputError
from bisupervised.models.onnx import OnnxModel
from bisupervised.models.tokenizer import Tokenizer

FILES = ("model_int8.onnx", "model.onnx")


def encoder_config(folder: Path) -> dict[str, Any]:
    """What `config.json` says. Raises `InputError` for a file that is none."""
    path = folder / "config.json"
    try:
        return _checked(json.loads(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError as error:
        raise InputError(f"there is no {path}: an encoder's folder has one, see text_encoder.py") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} does not describe an encoder: {error}") from error


def _checked(config: Any, what: str) -> dict[str, Any]:
    try:
        return {**config, "classes": list(config["classes"]), "max_length": int(config["max_length"])}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{what} does not describe an encoder: it says no {error}") from error


def tokenizer_of(folder: Path, config: Mapping[str, Any] | None = None) -> Tokenizer:
    """The tokenizer of a folder."""
    return Tokenizer(folder / "tokenizer.json", (config or encoder_config(folder))["max_length"])


def text_encoder(
    folder: Path, *, config: Mapping[str, Any] | None = None, threads: int = 1, name: str | None = None
) -> OnnxModel:
    """The classifier in a folder. `config` stands in for a `config.json`, and may name the model's `file` too."""
    config = encoder_config(folder) if config is None else _checked(config, "config")
    files = [config["file"]] if "file" in config else FILES
    path = next((folder / one for one in files if (folder / one).exists()), None)
    if path is None:
        raise InputError(f"{folder} holds no {' and no '.join(files)}")
    outputs = config.get("outputs", {})
    logits = "logits" in outputs
    return OnnxModel(
        path,
        classes=config["classes"],
        prepare=tokenizer_of(folder, config),
        output=outputs["logits"] if logits else outputs.get("probabilities"),
        softmax=logits,
        renormalise=not logits,  # 8-bit graphs round
        features=outputs.get("features"),
        threads=threads,
        name=name or folder.name,
        max_batch=1,
    )


def squeezed(text: str) -> str:
    """A text up to white space and case: by this, two texts are the same word for word."""
    return " ".join(text.split()).casefold()


def how_to_train(study: str, settings: str) -> str:
    """The two commands that make a study's encoder."""
    module = "python -m bisupervised.studies.live."
    return (
        f"{module}training_rows {study} --data DATA --out rows.jsonl.gz, then "
        f"{module}train_encoder rows.jsonl.gz --out MODELS/{study}_encoder {settings}"
    )


def notes_on_training(folder: Path, rows: int, repeated: int) -> list[str]:
    """What a reader must know of an encoder whose training rows, by its `config.json`, are all `rows` of a training
    half of which `repeated` texts are in the test half word for word."""
    path = folder / "config.json"
    if not path.exists() or encoder_config(folder).get("rows") != rows:
        return []
    return [
        f"{repeated} of the {rows:,} texts that the remote encoder was trained on are inputs of the study too, word "
        f"for word; encoders trained on what training_rows writes have not seen them"
    ]
