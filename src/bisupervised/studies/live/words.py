"""The results in sentences: what the terminal and the page both begin with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from bisupervised.evaluation.intervals import Estimate
from bisupervised.report.numerals import count, interval, percent, share
from bisupervised.studies.live.claims import MARGIN, SAVING, Claim, Outcome, Verdict
from bisupervised.studies.live.results import StudyResults

CLAIM_NAMES: Final = {
    "requests": f"{percent(SAVING)} fewer requests, less money, at most {100 * MARGIN:g} point less accurate",
    "accuracy": "more accurate than remote-only at reduced cost",
    "latency": "lower mean latency than remote-only",
}


def estimate_text(one: Estimate, *, signed: bool = False, rate: bool = False) -> str:
    """A figure with its interval."""
    if rate:
        return f"{percent(one.value)} {interval(one.low, one.high, percent)}".strip()

    def write(value: float) -> str:
        return share(value, signed=signed)

    return f"{write(one.value)} {interval(one.low, one.high, write)}".strip()


def verdict_text(one: Claim | Verdict) -> str:
    """`held`, `not held`, or `undecided` with the rows that would decide it, or why they would not."""
    if one.outcome is not Outcome.UNDECIDED:
        return one.outcome.value
    if one.n_needed is not None:
        return f"undecided ({count(one.n_needed)} rows would decide)"
    return f"undecided ({_why(one)})"


def _why(one: Claim | Verdict) -> str:
    open_parts = [one] if isinstance(one, Verdict) else [p for p in one.parts if p.outcome is Outcome.UNDECIDED]
    unknown = next((part for part in open_parts if math.isnan(part.estimate.value)), None)
    if unknown is None:
        return "the estimate lies on the bound"
    return "money not known" if "money" in unknown.what else "not measured"


def headline(results: Sequence[StudyResults]) -> str:
    """For how many studies each claim holds, in a sentence."""
    if not results:
        return "No study was run."
    numbers = [sum(study.claim(key).outcome is Outcome.HELD for study in results) for key in CLAIM_NAMES]
    found = [f"claim {place} in {number or 'none'}" for place, number in enumerate(numbers, start=1)]
    studies = "one study" if len(results) == 1 else f"{len(results)} studies"
    return f"On the report rows of {studies}, held: {', '.join(found)}."


def claim_lines(results: Sequence[StudyResults]) -> list[str]:
    """What each claim says, and of which studies it is held, not held, undecided: a sentence each."""
    texts = []
    for number, (key, name) in enumerate(CLAIM_NAMES.items(), start=1):
        by_outcome: dict[Outcome, list[str]] = {outcome: [] for outcome in Outcome}
        for study in results:
            by_outcome[study.claim(key).outcome].append(study.name)
        found = "; ".join(f"{outcome}: {', '.join(names)}" for outcome, names in by_outcome.items() if names)
        texts.append(f"Claim {number}, {name}. {found[:1].upper()}{found[1:]}.")
    return texts


def study_line(study: StudyResults) -> str:
    """What its system of claim 1 does, in a sentence."""
    run, saved = study.run("fewest_requests"), study.saved
    best = study.run("most_accurate")
    return (
        f"{percent(saved.value)} fewer requests {interval(saved.low, saved.high, percent)}, system accuracy "
        f"{estimate_text(run.difference, signed=True)} against remote-only; at best "
        f"{estimate_text(best.difference, signed=True)}, with {percent(1.0 - best.request_rate.value)} fewer."
    )


def goal_line(results: Sequence[StudyResults]) -> str:
    """Our goal of half the requests in at least two studies; by point estimates, where claim 1's accuracy holds."""
    reached = [
        study.name
        for study in results
        if study.saved.value >= 0.5 and study.claim("requests").parts[-1].outcome is Outcome.HELD
    ]
    names = f" ({', '.join(reached)})" if reached else ""
    return (
        f"Half the requests are saved, not inferior in accuracy, in {len(reached)} of {len(results)} studies{names}: "
        f"a point estimate; the goal is two."
    )
