"""The paper's recorded rows through the analysis of the live studies.

`python benchmarks/live_recorded.py ../shared/data`. The same parts, rules and claims, on the models of the paper: the
small transformer and GPT-3 curie (imdb), MobileNetV3 and EfficientNetV2-L (ImageNet), BERT-tiny and GPT-3 davinci
(SQuADv2). Money is not known for these rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bisupervised.studies.live.analysis import analyse
from bisupervised.studies.live.imdb import imdb_replay
from bisupervised.studies.live.live_report import lines
from bisupervised.studies.live.paper_replays import imagenet_replay, squadv2_replay
from bisupervised.studies.live.parts import parts_of
from bisupervised.table import Table

STUDIES: dict[str, tuple[Callable[[Path], Table], str, str, str | None]] = {
    "imdb_recorded": (imdb_replay, "imdb", "accuracy", None),
    "imagenet_recorded": (imagenet_replay, "ImageNet", "accuracy", None),
    "squadv2_recorded": (squadv2_replay, "SQuADv2 (all)", "exact_match", "passage"),
}


def main(data: Path) -> None:
    results = []
    for name, (load, paper, objective, cluster) in STUDIES.items():
        table = load(data)
        keys = table.ids if cluster is None else [f"{cluster}-{one}" for one in table.extra[cluster]]
        table = replace(table, extra={**table.extra, "part": parts_of(name, [str(key) for key in keys])})
        results.append(analyse(table, name, [paper], objective, cluster))
    print("\n".join(lines(results)))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))
