"""A replay in words: the sentence that a reader takes away, a table in plain text, and what to do next."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from bisupervised.evaluation.intervals import Estimate
from bisupervised.evaluation.replayed import Replay, ReplayPoint
from bisupervised.report.figures import json_safe
from bisupervised.report.numerals import (
    NOT_KNOWN_TEXT,
    amount,
    count,
    difference_text,
    interval,
    percent,
    seconds,
    share,
    threshold,
)
from bisupervised.request_logs import REASONS

MONTH_DAYS = 30
#: Below a day of log, and from this share of repeated inputs on, a reader is told.
_SHORT_DAYS = 1.0
_MANY_REPEATED = 0.1
_FEW_LOCAL = 30


def headline(replay: Replay) -> str:
    """What the cascade would have done, in one sentence."""
    point = replay.shown
    if point is None:
        return (
            "The local model gave no answer with a confidence, so every request would go to the remote model: "
            "look at its failures before anything else."
        )
    where = (
        f"At request rate {percent(point.request_rate_of_all.value)} (local confidence >= "
        f"{threshold(point.local_threshold)})"
    )
    if math.isnan(point.saved.value):
        saving = "what you would save is not known"
    else:
        saving = f"you would {_money(replay, point)}"
    return f"{where} {saving}; {_differing(replay, point)}."


def _money(replay: Replay, point: ReplayPoint) -> str:
    days = replay.traffic.days
    cheaper = point.saved.value >= 0.0
    saved = point.saved if cheaper else Estimate(-point.saved.value, -point.saved.high, -point.saved.low)
    verb = "save about" if cheaper else "pay about"
    more = "" if cheaper else " more"
    shares = point.saved_share.value if cheaper else -point.saved_share.value
    of_all = "" if math.isnan(shares) else f", {percent(shares)} of the {'known ' if _unknown(replay) else ''}spend"
    if math.isnan(days):
        return f"{verb} {_with_interval(saved)}{more} over this log{of_all}"
    daily = Estimate(*(value / days for value in saved))
    return f"{verb} {_with_interval(daily)}{more} a day ({amount(daily.value * MONTH_DAYS)} in 30 days){of_all}"


def _unknown(replay: Replay) -> int:
    return replay.traffic.n_unknown_costs


def _with_interval(estimate: Estimate) -> str:
    ends = interval(estimate.low, estimate.high, amount)
    return f"{amount(estimate.value)} {ends}".rstrip()


def _differing(replay: Replay, point: ReplayPoint) -> str:
    ends = interval(point.disagreement.low, point.disagreement.high, percent)
    differing = point.n_differing
    number = count(int(differing)) if float(differing).is_integer() else amount(differing)
    return (
        f"{number} of the {count(point.n_local)} answers kept local would have differed from what the remote model "
        f"said ({percent(point.disagreement.value)} {ends})"
    )


def basis(replay: Replay) -> str:
    """What the figures are made of."""
    traffic = replay.traffic
    text = (
        f"{count(replay.n_sample)} of the {count(traffic.n_scorable)} requests that a supervisor could score were "
        f"replayed, out of {count(traffic.n_requests)}; intervals are 95 %."
    )
    if traffic.unscorable:
        reasons = ", ".join(f"{count(n)} {REASONS[kind]}" for kind, n in traffic.unscorable.items())
        text += f" The others are counted as remote requests: {reasons}."
    return text


def cautions(replay: Replay, repeated: int = 0) -> list[str]:
    """What a reader could misread."""
    point = replay.shown
    found = [
        "A difference is no error: the remote model errs too, and where both say the same they may both be wrong."
    ]
    if replay.in_words:
        found.append(
            f"The answers are texts (the median one has {replay.answer_words:.0f} words), and two models rarely "
            f"write the same: only {percent(replay.agreement.value)} agree word for word, which says little. The "
            f"mean token F1 is {share(replay.token_f1)}; --agreement token_f1 judges by it, --labels a,b,c by labels."
        )
    if replay.auroc.low <= 0.5:
        found.append(
            f"The local confidence is not shown to tell agreeing from differing answers (AUROC "
            f"{share(replay.auroc.value)} {interval(*replay.auroc[1:])}): no threshold will help before it does."
        )
    if replay.failures:
        kinds = ", ".join(f"{count(n)} {kind}" for kind, n in replay.failures.items())
        found.append(f"The local model failed on some of the sample ({kinds}); those go to the remote model.")
    if replay.n_without_confidence:
        found.append(
            f"{count(replay.n_without_confidence)} local answers came without a confidence and are never accepted; "
            f"`bisupervised doctor` says what the local model really gives."
        )
    if replay.n_no_label_read:
        found.append(
            f"{count(replay.n_no_label_read)} remote answers are none of the labels; they agree with nothing."
        )
    if point is not None and point.n_local < _FEW_LOCAL:
        found.append(f"Only {point.n_local} of the sample would be answered locally: replay more with --sample.")
    return [*found, *_about_money(replay), *_about_traffic(replay, repeated)]


def _about_money(replay: Replay) -> list[str]:
    traffic = replay.traffic
    if math.isnan(traffic.known_spend):
        return [
            "No request's cost is known; give --remote-cost, or --remote-prompt-price and --remote-completion-price."
        ]
    if traffic.n_unknown_costs:
        return [
            f"The cost of {count(traffic.n_unknown_costs)} requests is not known; what they would save is in no "
            f"figure."
        ]
    return []


def _about_traffic(replay: Replay, repeated: int) -> list[str]:
    traffic, found = replay.traffic, []
    if math.isnan(traffic.days) and not math.isnan(traffic.known_spend):
        found.append("The log's rows have no times: give --days, how long it took, for money a day.")
    elif traffic.days < _SHORT_DAYS:
        found.append(
            f"The log covers {seconds(traffic.days * 86_400)}: money a day takes every hour to be like these."
        )
    if repeated > _MANY_REPEATED * traffic.n_requests:
        found.append(
            f"{count(repeated)} of {count(traffic.n_requests)} requests repeat an earlier one exactly: a cache would "
            f"answer them for nothing, and the intervals, which take requests as independent, are too narrow."
        )
    elif repeated:
        found.append(f"{count(repeated)} of {count(traffic.n_requests)} requests repeat an earlier one exactly.")
    return found


# ---------------------------------------------------------------- the table


def table_lines(replay: Replay) -> list[str]:
    """The points as a table of plain text; `>` marks where to start, `*` the configured threshold."""
    daily = not math.isnan(replay.traffic.days)
    heads = [
        "local\nthreshold",
        "request rate\nof all requests",
        "answered\nlocally",
        "differ from\nthe remote answer",
    ]
    heads.append("saved\na day" if daily else "saved over\nthe log")
    extra = replay.in_words
    labelled = any(not math.isnan(point.versus_remote_only.value) for point in replay.points)
    heads += (["token\nF1"] if extra else []) + (["system accuracy -\nremote-only"] if labelled else [])
    rows = [_row(replay, point, extra, labelled) for point in replay.points]
    cells = [[head.split("\n")[line] for head in heads] for line in (0, 1)] + rows
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    marks = ["", "", *(_mark(replay, point) for point in replay.points)]
    lines = [
        f"{mark:2}" + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for mark, row in zip(marks, cells, strict=True)
    ]
    return [*lines[:2], "  " + "─" * (sum(widths) + 2 * len(widths) - 2), *lines[2:]]


def _mark(replay: Replay, point: ReplayPoint) -> str:
    return (">" if point is replay.start else "") + ("*" if point.configured else "")


def _row(replay: Replay, point: ReplayPoint, extra: bool, labelled: bool) -> list[str]:
    rate, differ = point.request_rate_of_all, point.disagreement
    money = (
        point.saved if math.isnan(replay.traffic.days) else Estimate(*(x / replay.traffic.days for x in point.saved))
    )
    row = [
        threshold(point.local_threshold),
        f"{percent(rate.value)} {interval(rate.low, rate.high, percent)}",
        count(point.n_local),
        f"{percent(differ.value)} {interval(differ.low, differ.high, percent)}" if point.n_local else NOT_KNOWN_TEXT,
        _with_interval(money),
    ]
    if extra:
        row.append(share(point.token_f1))
    if labelled:
        row.append(difference_text(point.versus_remote_only, signed=True))
    return row


# ---------------------------------------------------------------- what to do next


def next_steps(replay: Replay, *, to_label: str | None = None, n_to_label: int = 0) -> list[str]:
    """What to do, in order. `to_label` is where the rows worth a label were written."""
    return [step for step in (_observe(replay), _label(replay, to_label, n_to_label)) if step]


def _observe(replay: Replay) -> str:
    point, most = replay.shown, percent(replay.max_disagreement)
    if point is None:
        return ""
    setting = f"thresholds = {{ local = {threshold(point.local_threshold)}, remote = … }}"
    if replay.start is not None:
        chosen = f"the fewest requests at which at most {most} of local answers are shown to differ"
    else:
        which = "this is the configured one" if point.configured else "this one sends most away"
        chosen = f"no threshold shown keeps the answers that differ within {most} (--max-disagreement); {which}"
    return (
        f'Start with mode = "observe" and {setting}: {chosen}. Users are answered as before; the decision log says '
        f"on new traffic what would have been done, and `bisupervised evaluate` reads it."
    )


def _label(replay: Replay, to_label: str | None, n_to_label: int) -> str:
    needed, point = replay.labels, replay.shown
    if needed is None or point is None:
        return ""
    margin = percent(needed.margin)
    if needed.bounded_without:
        return (
            f"No label is needed to know that system accuracy falls by at most {margin}: at most "
            f"{percent(needed.discordant.high)} of the scorable requests get another answer than now."
        )
    if not math.isnan(point.versus_remote_only.value):
        text = f"By {count(replay.n_labelled)} labelled rows that differ, system accuracy is "
        text += f"{difference_text(point.versus_remote_only, signed=True)} against remote-only"
        both = replay.agreeing_correct
        if not math.isnan(both.value):
            ends = interval(both.low, both.high, percent)
            text += f" (where both say the same, {percent(both.value)} {ends} are right)"
        half = (point.versus_remote_only.high - point.versus_remote_only.low) / 2.0
        if half <= needed.margin:
            return text + f": known within +-{margin}. Calibrate on labelled traffic, then enforce for a share of it."
        text += f", not yet known within +-{margin}."
    else:
        text = f"Not known yet: the loss in system accuracy within +-{margin}."
    return f"{text} {_labels_text(replay, to_label, n_to_label)}"


def _labels_text(replay: Replay, to_label: str | None, n_to_label: int) -> str:
    needed, point, n_scorable = replay.labels, replay.shown, replay.traffic.n_scorable
    assert needed is not None
    assert point is not None
    differing = math.ceil(point.n_differing)
    if needed.inputs <= replay.n_sample:
        text = (
            f"It takes labels of {count(min(needed.labels, differing))} of the {count(differing)} rows that differ."
        )
    else:
        text = (
            f"It takes labels of {count(needed.labels)} rows that differ, found among about {count(needed.inputs)} "
        )
        text += f"replayed requests (--sample {min(needed.inputs, n_scorable)})"
        if needed.inputs > n_scorable:
            text += f", more than this log's {count(n_scorable)}; a wider --margin takes fewer"
        text += "."
    if to_label is not None:
        text += (
            f" The {count(n_to_label)} rows that say most are in {to_label}: fill `label` with the right answer, or "
            f"`right` with local, remote, both or neither, and run this again with --labels-file {to_label}."
        )
    return text


# ---------------------------------------------------------------- whole


def replay_text(replay: Replay, *, repeated: int = 0, steps: Sequence[str] = (), width: int = 100) -> str:
    """Everything, for a terminal or a pipe: the sentence first."""
    lines = [*_wrapped(headline(replay), width), "", *_wrapped(basis(replay), width), "", *table_lines(replay)]
    legend = [">: where to start"] * (replay.start is not None)
    legend += ["*: the configured threshold"] * any(point.configured for point in replay.points)
    lines += ["  " + ", ".join(legend)] * bool(legend)
    lines += ["", "What to be careful about"]
    for caution in cautions(replay, repeated):
        lines += _wrapped(caution, width, " - ")
    if steps:
        lines += ["", "What to do next"]
    for number, step in enumerate(steps, start=1):
        lines += _wrapped(step, width, f" {number}. ")
    return "\n".join(lines)


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """The lines of a paragraph, its numbers kept with their units and intervals in one piece."""
    kept = re.sub(r"\[[^\]]*\]| %", lambda match: match[0].replace(" ", "\xa0"), text)
    lines = wrap(kept, width, initial_indent=indent, subsequent_indent=" " * len(indent), break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


def replay_to_dict(replay: Replay, repeated: int = 0, steps: Sequence[str] = ()) -> dict[str, Any]:
    """Every figure, ready for JSON: rates in [0, 1], seconds, currency units over the log's `days`."""
    traffic, needed = replay.traffic, replay.labels
    values = {
        "headline": headline(replay),
        "n_requests": traffic.n_requests,
        "n_scorable": traffic.n_scorable,
        "unscorable": dict(traffic.unscorable),
        "n_repeated": repeated,
        "n": replay.n_sample,
        "failures": dict(replay.failures),
        "n_without_confidence": replay.n_without_confidence,
        "agreement": replay.agreement._asdict(),
        "token_f1": replay.token_f1,
        "answer_words": replay.answer_words,
        "auroc": replay.auroc._asdict(),
        "latency_s": dict(replay.latency_s),
        "days": traffic.days,
        "spend": traffic.known_spend,
        "n_unknown_costs": traffic.n_unknown_costs,
        "points": [_point_to_dict(point) for point in replay.points],
        "start": None if replay.start is None else {"local_threshold": replay.start.local_threshold},
        "max_disagreement": replay.max_disagreement,
        "labels_needed": None
        if needed is None
        else {
            "margin": needed.margin,
            "discordant": needed.discordant._asdict(),
            "n": needed.inputs,
            "n_labels": needed.labels,
            "bounded_without": needed.bounded_without,
        },
        "n_labelled": replay.n_labelled,
        "agreeing_correct": replay.agreeing_correct._asdict(),
        "warnings": cautions(replay, repeated),
        "next": list(steps),
    }
    safe: dict[str, Any] = json_safe(values)
    return safe


def _point_to_dict(point: ReplayPoint) -> dict[str, Any]:
    estimates = ("request_rate", "request_rate_of_all", "disagreement", "saved", "saved_share", "versus_remote_only")
    return {
        "local_threshold": point.local_threshold,
        "configured": point.configured,
        "n_local": point.n_local,
        "n_differing": point.n_differing,
        "token_f1": point.token_f1,
        **{name: getattr(point, name)._asdict() for name in estimates},
    }
