"""A text classifier of a few hundred numbers: a real ONNX graph and a real tokenizer, made here.

Each word is a vector of 2; their mean is the features, whose differences are the logits. `good` speaks for the second
class and `bad` for the first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

WORDS = {"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3, "film": 4}
VECTORS = np.array([[9, 9], [0, 0], [0, 2], [2, 0], [0.5, 0.5]], dtype=np.float32)
HEAD = np.array([[1, -1], [-1, 1]], dtype=np.float32)


def logits_of(*words: str) -> Any:
    """What the classifier makes of these words."""
    return VECTORS[[WORDS[word] for word in words]].mean(axis=0) @ HEAD


def write_graph(path: Path, *, types: bool = False, outputs: tuple[str, ...] = ("logits", "features")) -> None:
    """The graph, optionally with a third input, `token_type_ids`, that changes nothing."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if types else [])]
    graph = helper.make_graph(
        [
            node("Gather", ["vectors", "input_ids"], ["embedded"]),
            node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["mask", "last"], ["column"]),
            node("Mul", ["embedded", "column"], ["masked"]),
            node("ReduceSum", ["masked", "second"], ["sum"], keepdims=0),
            node("ReduceSum", ["mask", "second"], ["count"], keepdims=1),
            node("Div", ["sum", "count"], ["features"]),
            node("MatMul", ["features", "head"], ["logits"]),
            node("Softmax", ["logits"], ["probs"], axis=-1),
        ],
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, [None, None]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in outputs],
        [
            numpy_helper.from_array(VECTORS, "vectors"),
            numpy_helper.from_array(HEAD, "head"),
            numpy_helper.from_array(np.array([2], dtype=np.int64), "last"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "second"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)


def write_tokenizer(path: Path) -> None:
    """Words split on white space, in lower case."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(path))


def write_encoder(folder: Path, **config: Any) -> Path:
    """A folder as `train_encoder` writes it, with further keys of its config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_graph(folder / "model.onnx")
    write_tokenizer(folder / "tokenizer.json")
    outputs = {"logits": "logits", "features": "features"}
    said = {"classes": ["negative", "positive"], "max_length": 4, "outputs": outputs, **config}
    (folder / "config.json").write_text(json.dumps(said))
    return folder
