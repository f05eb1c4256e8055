"""The headline figures of the live studies, recomputed from the numbers that come with the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bisupervised.studies.live.prices import Prices
from bisupervised.studies.live.registry import numbers_by_name
from bisupervised.studies.live.running import analysed

#: As reported in docs/findings/live.md; written by `python tests/studies/live/test_headline.py`.
HEADLINE = Path(__file__).with_name("headline.json")
NAMES = ("imdb", "issues", "imagenet", "squadv2", "out_of_scope")


def headline(name: str) -> dict[str, object]:
    """The figures of a study that the findings quote, to four decimals."""
    pytest.importorskip("pyarrow")
    results = analysed(numbers_by_name(name), Prices.load()).to_dict()
    return {
        "local_only": round(results["local_only"]["value"], 4),
        "remote_only": round(results["remote_only"]["value"], 4),
        "claims": {claim["key"]: claim["outcome"] for claim in results["claims"]},
        "chosen": {
            system["purpose"]: [round(system[what]["value"], 4) for what in ("request_rate", "difference")]
            for system in results["systems"]
            if system["chosen"]
        },
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_figures_of_the_findings_come_out_again(name: str) -> None:
    assert _close(headline(name), json.loads(HEADLINE.read_text())[name])


def _close(found: object, expected: object) -> bool:
    """Equal, numbers to three decimals or one in a hundred: other processors add up in another order."""
    if isinstance(expected, float) and isinstance(found, float | int):
        return found == pytest.approx(expected, abs=2e-3, rel=1e-2, nan_ok=True)
    if isinstance(expected, dict) and isinstance(found, dict):
        return found.keys() == expected.keys() and all(_close(found[key], expected[key]) for key in expected)
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(map(_close, found, expected))
    return found == expected


def test_the_numbers_hold_no_texts() -> None:
    pytest.importorskip("pyarrow")
    for name in NAMES:
        table = numbers_by_name(name).table
        for column, values in table.to_columns().items():
            if values.dtype.kind in "OU" and column != "id":
                assert max(len(str(value)) for value in values) <= 40, f"{name}: {column}"


if __name__ == "__main__":
    HEADLINE.write_text(json.dumps({name: headline(name) for name in NAMES}, indent=1) + "\n")
