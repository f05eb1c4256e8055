"""The paper's own recorded outputs as numbers tables: ids, confidences, correctness, times; no texts.

They go through the same analysis as the live studies, which shows what of their difference is the models' and what
the analysis'. The authors' files are those of the replication package testingautomated-usi/bisupervised (MIT).
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.errors import TableError
from bisupervised.studies.live.sources import found
from bisupervised.studies.live.study import Source
from bisupervised.studies.paper import load_paper_study
from bisupervised.table import Table


def squadv2_replay(data: Path) -> Table:
    """All 10,669 questions as BERT-tiny (local) and GPT-3 davinci (remote) answered them: correct by exact match.

    `extra`: `is_possible` (0/1), `passage` and `article`, numbers whose equal values are not independent.
    """
    source = Source(
        "the paper's SQuADv2 rows",
        data / "squad" / "squadv2_paper_rows.jsonl.gz",
        "Weiss & Tonella, TOSEM 2023 (doi:10.1145/3617593); questions: Rajpurkar, Jia, Liang, ACL 2018",
        "MIT (the recorded outputs), CC BY-SA 4.0 (the questions)",
        "the replication package testingautomated-usi/bisupervised joined with SQuAD v2.0's development set",
    )
    path = found(source)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows: list[dict[str, Any]] = [json.loads(line) for line in file]
        columns: dict[str, Any] = {"id": [f"squad-{row['row']}" for row in rows]}
        for level, model in (("local", "bert_tiny"), ("remote", "davinci")):
            columns[f"{level}_correct"] = np.array([float(row[f"{model}_em"]) for row in rows])
            columns[f"{level}_confidence"] = np.array([float(row[f"{model}_conf"]) for row in rows])
            columns[f"{level}_latency_s"] = np.array([float(row[f"{model}_time"]) for row in rows])
        columns["is_possible"] = np.array([float(row["is_possible"]) for row in rows])
        columns["passage"] = _numbered([row["context"] for row in rows])
        columns["article"] = _numbered([row["title"] for row in rows])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise TableError(f"{path} cannot be read as {source.what}: {what}. Get it again: {source.get}") from error
    return Table.from_columns(columns)


def imagenet_replay(data: Path) -> Table:
    """All 50,000 validation images as MobileNetV3-small (local) and EfficientNetV2-L (remote) classified them."""
    study = next(one for one in load_paper_study(data / "paper") if one.name == "ImageNet")
    return replace(study.table, ids=np.array([f"imagenet-{id_}" for id_ in study.table.ids], dtype=object))


def _numbered(values: list[str]) -> np.ndarray[Any, Any]:
    """Equal values by one number, in the order in which they first come."""
    numbers: dict[str, float] = {}
    return np.array([numbers.setdefault(value, float(len(numbers))) for value in values])
