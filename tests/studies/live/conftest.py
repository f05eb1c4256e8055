"""Analysed once for all tests of the folder: what the analysis takes seconds for."""

from __future__ import annotations

import numpy as np
import pytest

from bisupervised.studies.live.analysis import analyse
from bisupervised.studies.live.results import StudyResults
from studies.live.tables import PAPER, PerToken, of_the_paper, simulated


@pytest.fixture(scope="session")
def split_study() -> StudyResults:
    """A set with a calibration and a report part, priced."""
    table = simulated(900, seed=1, local_domain_confidence=np.random.default_rng(3).random(900))
    return analyse(table, "imdb", ["imdb"], prices={"made-up": PerToken()}, notes=["simulated"], title="Simulated")


@pytest.fixture(scope="session")
def crossed_study() -> StudyResults:
    """A cross-fitted, clustered and graded set without prices."""
    table = simulated(400, seed=2, folds=True, clusters=100, graded=True)
    return analyse(table, "squadv2", ["SQuADv2 (all)"], "exact_match", "passage", True)


@pytest.fixture(scope="session")
def paper_imdb() -> StudyResults:
    """The paper's recorded imdb rows, as if they were live."""
    if not (PAPER / "rq2_table.csv").is_file():
        pytest.skip("the authors' published files are not in ../shared/data/paper")
    return analyse(of_the_paper("imdb"), "imdb", ["imdb"], published=str(PAPER))
