"""What each verdict means for the guarantee, and what to do: one sentence each."""

from __future__ import annotations

import math
from typing import Final

from bisupervised.monitoring.findings import Said, Verdict

_RECALIBRATE: Final = (
    "`bisupervised calibrate RECENT --out new.toml` with the options of the last time (its target is in the file; "
    "learned supervisors: --supervisors-of thresholds.toml)"
)

_MOVED: Final = {
    "local_confidences": (
        "The calibration rows no longer stand for these inputs: no risk or request rate that was promised from them "
        "is promised here.",
        "See first whether the local model, its quantifier or the inputs' format changed; else label about {rows} "
        "recent rows, drawn at random, and calibrate anew: {recalibrate}.",
    ),
    "local_missing": (
        "Another share of the inputs has no confidence than among the calibration rows; such inputs are deferred: a "
        "request budget is not promised.",
        "See in the log whether the local model fails (local_error), or its replies lack what the quantifier reads; "
        "repair that before calibrating anew.",
    ),
    "remote_missing": (
        "Another share of the remote replies has no confidence than among the calibration rows; such replies are "
        "rejected: the coverage is not as promised.",
        "See in the log whether the remote model fails (remote_error), or its replies lack what the quantifier "
        "reads.",
    ),
    "remote_confidences": (
        "On deferred inputs the 2nd level no longer behaves as calibrated: its false alarm rate and the risk of "
        "remote answers are not promised.",
        "See whether the remote model or its version changed; else label about {rows} recent deferred rows, drawn at "
        "random, and calibrate anew: {recalibrate}.",
    ),
    "request_rate": (
        "Another share of the inputs is deferred than among the calibration rows: a request budget from them is not "
        "promised, nor is the cost.",
        "The request rate needs no labels: calibrate anew on recent rows, as by `bisupervised calibrate RECENT "
        "--max-request-rate SHARE --out thresholds.toml`.",
    ),
    "early_abstention": (
        "Another share of the inputs is rejected without a request than among the calibration rows: the coverage is "
        "not as promised.",
        "Look at what is rejected early; label about {rows} recent rows, drawn at random, and calibrate anew: "
        "{recalibrate}.",
    ),
    "risk": (
        "Accepted answers of this level are wrong at another rate than among the calibration rows: a bound on the "
        "risk from them does not hold here.",
        "Label about {rows} recent rows, drawn at random, and calibrate anew: {recalibrate}; if the risk rose, raise "
        "the local threshold, or have the remote model answer, until then.",
    ),
    "disagreement": (
        "Audited local answers differ from the remote model's at another rate than among the calibration rows: the "
        "local model's risk has likely moved, although the remote errs too.",
        "Label about {rows} recent locally accepted rows, drawn at random, and see `drift` for their risk; calibrate "
        "anew: {recalibrate}.",
    ),
    "risk_limit": (
        "The risk is above its limit{broken}.{luck}",
        "Raise the local threshold, or have the remote model answer, and calibrate anew on about as many recent "
        "labelled rows as before: {recalibrate}.",
    ),
    "request_rate_limit": (
        "More inputs are deferred than the limit allows{broken}.{luck}",
        "It needs no labels: calibrate anew on recent rows, as by `bisupervised calibrate RECENT --max-request-rate "
        "SHARE --out thresholds.toml`.",
    ),
    "abstention_limit": (
        "More inputs get no trusted answer than the limit allows{broken}.{luck}",
        "See first whether a model fails (local_error, remote_error); else calibrate anew on about as many recent "
        "labelled rows as before: {recalibrate}.",
    ),
}
#: Where the rate fell: what it was held to is kept.
_FELL: Final = {
    "risk": (
        "Accepted answers of this level are wrong less often than among the calibration rows: an upper bound on the "
        "risk is kept, but what the thresholds were chosen by no longer holds.",
        "Calibrating anew on about {rows} recent labelled rows, drawn at random, may save requests: {recalibrate}.",
    ),
    "request_rate": (
        "A smaller share of the inputs is deferred than among the calibration rows: a request budget is kept, but "
        "what the thresholds were chosen by no longer holds.",
        _MOVED["request_rate"][1],
    ),
}
_NO_SIGN: Final = (
    "Nothing found here speaks against the guarantee; that is no proof that nothing changed.",
    "Nothing; run it again on all rows when there are more: the alarm stays valid however often it is looked at.",
)
_KEPT: Final = (
    "Nothing found here speaks against the limit; the interval says how far the rate may still be from it.",
    _NO_SIGN[1],
)
_TOO_FEW: Final = "The guarantee is neither confirmed nor questioned by so few rows."
_LABELS: Final = ("local_risk", "remote_risk", "risk_limit")


def words_for(
    question: str,
    verdict: Verdict,
    *,
    missing: float,
    reference_rows: int,
    reference_needed: float,
    delta: float,
    fell: bool = False,
) -> Said:
    """Both sentences. `delta` NaN: nothing was promised. `missing` rows until a change of 0.1 would be noticed, inf:
    never with these calibration rows.
    """
    if verdict is Verdict.MOVED:
        luck = broken = ""
        if not math.isnan(delta):
            broken = ": the promise is broken on these rows"
            luck = f" By bad luck in calibration alone that has a probability of {delta:.4g}."
        meaning, to_do = _sentences(question, fell)
        rows = f"{reference_rows:,}" if reference_rows else "as many"
        return Said(meaning.format(broken=broken, luck=luck), to_do.format(rows=rows, recalibrate=_RECALIBRATE))
    if verdict is Verdict.NO_SIGN:
        return Said(*(_KEPT if question.endswith("_limit") else _NO_SIGN))
    if math.isinf(missing):
        return Said(
            f"With {reference_rows:,} calibration rows to compare with, a change of 0.1 can never be noticed.",
            f"Calibrate on at least {math.ceil(reference_needed):,} rows of this kind: {_RECALIBRATE}.",
        )
    k = f"{math.ceil(missing):,}"
    if question in _LABELS:
        return Said(_TOO_FEW, f"Label about {k} more accepted answers, drawn at random, then run it again.")
    if question == "disagreement":
        return Said(_TOO_FEW, f"Wait for about {k} more audits, or raise audit_share.")
    what = "deferred rows" if question.startswith("remote") else "rows"
    return Said(_TOO_FEW, f"Wait for about {k} more {what}, then run it again on all of them.")


def _sentences(question: str, fell: bool) -> tuple[str, str]:
    key = "risk" if question in ("local_risk", "remote_risk") else question
    return (_FELL if fell and key in _FELL else _MOVED)[key]
