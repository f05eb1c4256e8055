"""Files for people who label: the rows worth a label are written, and read back when they are filled in."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from bisupervised.errors import TableError
from bisupervised.evaluation.labelling import judgements_of, rows_to_label
from bisupervised.evaluation.replayed import Judgement, Question, Replay
from bisupervised.request_logs import LoggedRequest
from bisupervised.request_logs.rows import valid_text
from bisupervised.sources import read_columns
from bisupervised.table import Table, is_missing

_COLUMNS = ("id", "label", "right", "input", "local_answer", "remote_answer", "local_confidence", "why")


def write_to_label(path: Path, replay: Replay, requests: Mapping[str, LoggedRequest], seed: int = 0) -> int:
    """Write the rows worth a label, with a `label` and a `right` column to fill; how many. `requests` are by id.

    None worth it: nothing is written.
    """
    rows = rows_to_label(replay, seed)
    if not rows:
        return 0
    table = replay.table
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for one in rows:
            id_ = str(table.ids[one.row])
            texts = (requests[id_].text("last_message"), table.local.predictions[one.row], requests[id_].answer)
            shown = [_harmless(valid_text(str(text))) for text in texts]
            writer.writerow([id_, "", "", *shown, f"{table.local.confidences[one.row]:.6g}", one.why])
    return len(rows)


def _harmless(text: str) -> str:
    """A text that a spreadsheet takes for a text, and not for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def may_be_replaced(path: Path) -> bool:
    """Whether nobody's work is lost by writing a file anew: it is missing, or ours and nobody has filled it in."""
    if not path.exists() or path.stat().st_size == 0:
        return True
    try:
        columns = read_columns(path)
    except TableError:
        return False
    filled = any(not is_missing(cell) for name in ("label", "right") for cell in columns.get(name, ()))
    return set(_COLUMNS) <= columns.keys() and not filled


def read_judgements(path: Path, table: Table, question: Question) -> dict[str, Judgement]:
    """What the labels of a file say of a replay's rows, by id. Raises `TableError` when they say nothing."""
    columns = read_columns(path)
    if "id" not in columns or not {"label", "right"} & columns.keys():
        raise TableError(f"{path} needs an id and a label or right column; it has: {', '.join(columns)}")
    empty = [None] * len(columns["id"])
    labels, right = (list(columns.get(name, empty)) for name in ("label", "right"))
    found = judgements_of(table, list(columns["id"]), labels, right, question)
    if not found:
        raise TableError(f"{path} has no label of a replayed row: fill its label or right column")
    return found
