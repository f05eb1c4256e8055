"""The authors' published files where they are at hand, and a small imitation of them where they are not."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisupervised.studies.paper import PaperRow, RecordedStudy, load_paper_study, load_published

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "paper"


@pytest.fixture(scope="session")
def published_directory() -> Path:
    """The authors' files; skips where they are missing."""
    if not (PUBLISHED / "rq2_table.csv").is_file():
        pytest.skip("the authors' published files are not in ../shared/data/paper")
    return PUBLISHED


@pytest.fixture(scope="session")
def studies(published_directory: Path) -> dict[str, RecordedStudy]:
    """The four published studies by name."""
    return {study.name: study for study in load_paper_study(published_directory)}


@pytest.fixture(scope="session")
def published(published_directory: Path) -> list[PaperRow]:
    """The published rows, Issues included."""
    return load_published(published_directory)


N = 60
UNREADABLE = (3, 17, 40)


def _write(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


@pytest.fixture
def imitation(tmp_path: Path) -> Path:
    """Files of the authors' three kinds, 60 rows each, the remote rows in another order than the local ones."""
    rng = np.random.default_rng(7)
    folder = tmp_path / "recorded"
    folder.mkdir()
    truth = rng.integers(0, 2, N)
    for name, index in (("imdb", {"id": range(N)}), ("imagenet", {"": range(N), "index": range(N)})):
        for level, right in (("local", 0.6), ("remote", 0.9)):
            wrong = rng.random(N) > right
            predictions, confidence = np.where(wrong, 1 - truth, truth), rng.random(N).round(2)
            if (name, level) == ("imdb", "remote"):
                predictions[list(UNREADABLE)], confidence[list(UNREADABLE)] = -1, 0.0
            columns: dict[str, Any] = {**index, "prediction": predictions, "ground_truth": truth}
            columns |= {"sm_confidence": confidence, "pred_time": rng.random(N), "supervisor_time": np.full(N, 0.5)}
            _write(folder / f"{name}_{level}.csv", columns)
    possible = rng.random(N) < 0.5
    for level, key, score in (("local", "index", "sm_confidence"), ("remote", "id", "gpt3_confidence")):
        order = np.arange(N) if level == "local" else rng.permutation(N)
        columns = {key: order, "exact_match": rng.random(N) < 0.5, "is_possible": possible[order]}
        _write(folder / f"squadv2_{level}.csv", {**columns, score: rng.random(N), "pred_time": rng.random(N)})
    return folder
