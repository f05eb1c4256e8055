"""Fine-tune a small encoder as a study's remote model: `python -m bisupervised.studies.live.train_encoder`.

An encoder (any that `transformers` loads; the studies take all-MiniLM-L6-v2, Apache-2.0, 22 million parameters) with
mean pooling and one linear layer on top is trained by cross-entropy, and written as ONNX with the outputs `logits`
(n, classes) and `features` (n, width), in 32-bit floats (`model.onnx`) and with 8-bit weights (`model_int8.onnx`),
with its tokenizer and a `config.json` that says how it was made. It needs `torch`, `transformers`, `onnx` and
`onnxscript`, which nothing else here needs: `pip install torch transformers onnx onnxscript onnxruntime`. On a GPU it
takes minutes, on two cores hours.

`--validate` holds a share of the rows out and says the accuracy on them after every epoch: that is how settings are
chosen. The model that is kept is then trained on all rows, and never sees the study's own inputs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Settings:
    """How an encoder is trained; written beside the model."""

    max_length: int = 512  #: tokens; longer inputs are cut at their end
    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 5e-5  #: at its largest: it rises for a tenth of the steps and falls linearly to 0
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    dropout: float = 0.1
    label_smoothing: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts with their classes, as numbers."""

    texts: Sequence[str]
    labels: np.ndarray[Any, Any]  #: (n,) the place of each label among the classes
    classes: Sequence[Any]

    def take(self, rows: np.ndarray[Any, Any]) -> Rows:
        return Rows([self.texts[row] for row in rows], self.labels[rows], self.classes)


def read_rows(path: Path) -> Rows:
    """Rows from JSON lines, gzipped or not: `{"text": …, "label": …}` in each."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = [json.loads(line) for line in data.decode().splitlines() if line.strip()]
    classes = sorted({row["label"] for row in rows})
    return Rows([row["text"] for row in rows], np.array([classes.index(row["label"]) for row in rows]), classes)


# ---------------------------------------------------------------- the model


def build(base: str, classes: int, dropout: float) -> tuple[Any, Any]:
    """(model, tokenizer): the encoder of a hub name or a folder, mean pooling, a linear layer that starts at 0."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    class Classifier(torch.nn.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(base)
            self.encoder.float()
            self.dropout = torch.nn.Dropout(dropout)
            self.head = torch.nn.Linear(self.encoder.config.hidden_size, classes)
            torch.nn.init.zeros_(self.head.weight)
            torch.nn.init.zeros_(self.head.bias)

        def forward(self, input_ids: Any, attention_mask: Any) -> tuple[Any, Any]:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            features = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1.0)
            return self.head(self.dropout(features)), features

    return Classifier(), AutoTokenizer.from_pretrained(base)


def encode(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """The token ids of every text, cut at `max_length`."""
    ids: list[list[int]] = []
    for start in range(0, len(texts), 1000):
        ids += tokenizer(list(texts[start : start + 1000]), truncation=True, max_length=max_length)["input_ids"]
    return ids


def batch_of(ids: Sequence[Sequence[int]], device: str) -> tuple[Any, Any]:
    """(input ids, attention mask), padded with 0 to the longest."""
    import torch

    width = max(map(len, ids))
    padded = torch.zeros((len(ids), width), dtype=torch.long)
    mask = torch.zeros((len(ids), width), dtype=torch.long)
    for row, one in enumerate(ids):
        padded[row, : len(one)] = torch.tensor(one)
        mask[row, : len(one)] = 1
    return padded.to(device), mask.to(device)


def train(model: Any, tokenizer: Any, rows: Rows, settings: Settings, validation: Rows | None = None) -> list[float]:
    """Train in place; the accuracy on the validation rows after every epoch, if there are any."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    model.to(device)
    ids = encode(tokenizer, rows.texts, settings.max_length)
    labels = torch.tensor(rows.labels)
    optimiser = torch.optim.AdamW(
        [
            {"params": model.encoder.parameters(), "lr": settings.learning_rate},
            {"params": model.head.parameters(), "lr": settings.head_learning_rate},
        ],
        weight_decay=settings.weight_decay,
    )
    per_epoch = -(-len(ids) // settings.batch_size)
    total = settings.epochs * per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / max(0.1 * total, 1.0), (total - step) / max(0.9 * total, 1.0))
    )
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    accuracies = []
    for epoch in range(settings.epochs):
        model.train()
        start = time.perf_counter()
        losses = []
        for step, batch in enumerate(_batches([len(one) for one in ids], settings.batch_size, rng)):
            inputs, mask = batch_of([ids[row] for row in batch], device)
            with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
                logits, _ = model(inputs, mask)
                loss = loss_of(logits.float(), labels[batch].to(device))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.detach())
            if device == "cpu" and step % 20 == 0:
                _say(f"\repoch {epoch + 1} of {settings.epochs}: batch {step + 1} of {per_epoch}", end="")
        said = f"epoch {epoch + 1}: loss {torch.stack(losses).mean().item():.4f}, {time.perf_counter() - start:.0f} s"
        if validation is not None:
            accuracies.append(accuracy(model, tokenizer, validation, settings.max_length))
            said += f", validation accuracy {accuracies[-1]:.4f}"
        _say(said)
    return accuracies


def _batches(lengths: Sequence[int], size: int, rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
    """Batches of inputs of like length, in random order: little padding, and no order to learn from."""
    order = rng.permutation(len(lengths))
    pools = [order[start : start + 50 * size] for start in range(0, len(order), 50 * size)]
    batches = []
    for pool in pools:
        by_length = pool[np.argsort(np.asarray(lengths)[pool], kind="stable")]
        batches += [by_length[start : start + size] for start in range(0, len(by_length), size)]
    return [batches[place] for place in rng.permutation(len(batches))]


def probabilities(model: Any, tokenizer: Any, texts: Sequence[str], max_length: int) -> np.ndarray[Any, Any]:
    """(n, classes) of texts, in order."""
    import torch

    device = next(model.parameters()).device.type
    ids = encode(tokenizer, texts, max_length)
    order = np.argsort([len(one) for one in ids], kind="stable")
    model.eval()
    found: np.ndarray[Any, Any] | None = None
    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
        for start in range(0, len(order), 128):
            rows = order[start : start + 128]
            logits, _ = model(*batch_of([ids[row] for row in rows], device))
            p = torch.softmax(logits.float(), dim=1).cpu().numpy()
            found = np.zeros((len(ids), p.shape[1])) if found is None else found
            found[rows] = p
    return np.zeros((0, 0)) if found is None else found


def accuracy(model: Any, tokenizer: Any, rows: Rows, max_length: int) -> float:
    """The share of rows whose likeliest class is their label."""
    return float(np.mean(probabilities(model, tokenizer, rows.texts, max_length).argmax(1) == rows.labels))


# ---------------------------------------------------------------- files


def export(model: Any, tokenizer: Any, folder: Path, about: dict[str, Any]) -> None:
    """`model.onnx`, `model_int8.onnx`, the tokenizer and `config.json` in a folder."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder.mkdir(parents=True, exist_ok=True)
    model.to("cpu").eval()
    model.encoder.set_attn_implementation("eager")  # the fused kernel has no counterpart in ONNX
    example = batch_of([[101, 2023, 102], [101, 102]], "cpu")
    axes = {0: "batch", 1: "tokens"}
    torch.onnx.export(
        model,
        example,
        str(folder / "model.onnx"),
        input_names=["input_ids", "attention_mask"],
        output_names=["logits", "features"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch"}, "features": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    quantize_dynamic(folder / "model.onnx", folder / "model_int8.onnx", weight_type=QuantType.QInt8, per_channel=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    outputs = {"logits": "logits", "features": "features"}
    (folder / "config.json").write_text(json.dumps({**about, "outputs": outputs}, indent=2, default=str) + "\n")


def fine_tune(rows: Rows, base: str, folder: Path, settings: Settings, *, validate: float = 0.0) -> list[float]:
    """Train on rows (less a share held out to validate on) and write the model; the validation accuracies."""
    order = np.random.default_rng(settings.seed).permutation(len(rows.texts))
    held_out = round(validate * len(order))
    validation = rows.take(order[:held_out]) if held_out else None
    training = rows.take(order[held_out:])
    model, tokenizer = build(base, len(rows.classes), settings.dropout)
    accuracies = train(model, tokenizer, training, settings, validation)
    about = {
        "classes": list(rows.classes),
        "max_length": settings.max_length,
        "base": Path(base).name,
        "rows": len(training.texts),
        "settings": asdict(settings),
        "validation_accuracy": accuracies[-1] if accuracies else None,
    }
    export(model, tokenizer, folder, about)
    return accuracies


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="bisupervised.studies.live.train_encoder", description=__doc__)
    parser.add_argument("rows", type=Path, help="JSON lines of text and label, .gz or not")
    parser.add_argument("--base", default="sentence-transformers/all-MiniLM-L6-v2", help="a hub name or a folder")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the model")
    parser.add_argument("--validate", type=float, default=0.0, help="share of the rows held out to validate on")
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = parser.parse_args(arguments)
    settings = Settings(**{name: getattr(options, name) for name in asdict(Settings())})
    fine_tune(read_rows(options.rows), options.base, options.out, settings, validate=options.validate)


def _say(text: str, end: str = "\n") -> None:
    sys.stderr.write(text + end)
    sys.stderr.flush()


if __name__ == "__main__":
    main()
