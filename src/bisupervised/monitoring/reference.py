"""What the calibration rows looked like, in the few numbers that fit into `thresholds.toml`: the table `[reference]`.

    rows                                    calibration rows
    chose_thresholds                        whether these rows are those that the thresholds were chosen on
    local_threshold, remote_threshold, abstain_threshold    what they were decided by
    local, remote                           bins of the confidences; the 2nd level's of deferred rows only
      rows, missing                         how many, and how many of them without a confidence
      edges, counts                         edges of the bins, and the rows in each, one more than edges
      ties                                  [edge, its rank among the rows of its value, how many those are]
    request_rate, early_abstention          {count, rows}
    local_risk, remote_risk                 {count, rows}: errors (summed losses) of its accepted labelled answers
    disagreement                            {count, rows}: locally accepted rows where the remote model says otherwise

What is not known is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bisupervised.decision import accept, check_threshold, first_level
from bisupervised.errors import InputError, ThresholdError
from bisupervised.monitoring.ranks import BINS, Bins, Share
from bisupervised.records import BoolArray, FloatArray, LevelName
from bisupervised.table import Table, is_missing_cell, written

VERSION: Final = 1
_SHARES: Final = ("request_rate", "early_abstention", "local_risk", "remote_risk", "disagreement")


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """What thresholds make of n rows: everything that is compared with the reference, row by row."""

    asked: BoolArray  #: (n,) the local model was asked: only such rows count
    deferred: BoolArray  #: (n,) the remote model would be asked
    early: BoolArray  #: (n,) rejected without asking it
    remote_known: BoolArray  #: (n,) deferred, and the remote model was asked
    accepted: BoolArray  #: (n,) answered by a trusted model
    at_first: BoolArray  #: (n,) those of them that the local model answered
    loss: FloatArray  #: (n,) of the accepted answer, in [0, 1]; NaN where not accepted or not labelled


def decided(table: Table, local: float, remote: float, abstain: float = -math.inf) -> Decided:
    """Decide recorded rows by the one rule."""
    asked = np.asarray(table.local.asked, dtype=np.bool_)
    at_first, deferred = first_level(np.asarray(table.local.confidences, dtype=np.float64), local, abstain)
    at_first, deferred = at_first & asked, deferred & asked
    known = deferred & table.remote.asked
    trusted = known & accept(np.asarray(table.remote.confidences, dtype=np.float64), remote)
    correct = np.where(at_first, table.correct(LevelName.LOCAL), table.correct(LevelName.REMOTE))
    return Decided(
        asked=asked,
        deferred=deferred,
        early=asked & ~at_first & ~deferred,
        remote_known=known,
        accepted=at_first | trusted,
        at_first=at_first,
        loss=np.where(at_first | trusted, 1.0 - correct, np.nan),
    )


def _disagreement(table: Table, rows: BoolArray) -> Share | None:
    """Of rows that have both predictions; None: there is none."""
    known = differ = 0
    for row in np.flatnonzero(rows & table.remote.asked):
        pair = table.local.predictions[row], table.remote.predictions[row]
        if table.remote.errors[row] is None and not any(map(is_missing_cell, pair)):
            known += 1
            differ += written(pair[0]) != written(pair[1])
    return Share(differ, known) if known else None


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The calibration rows, for comparison."""

    rows: int
    local_threshold: float
    remote_threshold: float
    abstain_threshold: float
    local: Bins
    remote: Bins | None = None  #: None: no deferred row whose remote confidence is known
    request_rate: Share | None = None
    early_abstention: Share | None = None
    local_risk: Share | None = None  #: None: no labelled answer of the local model was accepted
    remote_risk: Share | None = None
    disagreement: Share | None = None
    chose_thresholds: bool | None = None  #: None: a file that does not say

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, for `[reference]`."""
        values: dict[str, Any] = {
            "version": VERSION,
            "rows": self.rows,
            "local_threshold": self.local_threshold,
            "remote_threshold": self.remote_threshold,
            "abstain_threshold": self.abstain_threshold,
            "local": _bins_to_mapping(self.local),
        }
        if self.remote is not None:
            values["remote"] = _bins_to_mapping(self.remote)
        if self.chose_thresholds is not None:
            values["chose_thresholds"] = self.chose_thresholds
        for name in _SHARES:
            share: Share | None = getattr(self, name)
            if share is not None:
                values[name] = {"count": share.count, "rows": share.rows}
        return values

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Reference:
        """Read `[reference]`. Raises `ThresholdError` with what is wrong and what to do."""
        if not values:
            raise ThresholdError(
                "the thresholds file has no [reference], so nothing is known of its calibration rows: write it anew "
                "with `bisupervised calibrate`"
            )
        if values.get("version") != VERSION:
            raise ThresholdError(
                f"[reference] is of version {values.get('version')!r}, and this program reads {VERSION}: calibrate "
                "anew"
            )
        try:
            return cls(
                rows=_count(values["rows"]),
                local_threshold=check_threshold(values["local_threshold"]),
                remote_threshold=check_threshold(values["remote_threshold"]),
                abstain_threshold=check_threshold(values["abstain_threshold"]),
                local=_bins_of(values["local"]),
                remote=_bins_of(values["remote"]) if "remote" in values else None,
                request_rate=_share_of(values.get("request_rate")),
                early_abstention=_share_of(values.get("early_abstention")),
                local_risk=_share_of(values.get("local_risk"), graded=True),
                remote_risk=_share_of(values.get("remote_risk"), graded=True),
                disagreement=_share_of(values.get("disagreement")),
                chose_thresholds=_flag(values.get("chose_thresholds")),
            )
        except KeyError as error:
            raise ThresholdError(f"[reference] lacks {error}: calibrate anew") from error
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ThresholdError(f"[reference] cannot be used: {error}. Calibrate anew") from error


def reference_of(
    table: Table,
    local: float,
    remote: float = -math.inf,
    abstain: float = -math.inf,
    *,
    bins: int = BINS,
    chose_thresholds: bool = False,
) -> dict[str, Any]:
    """The plain mapping `[reference]` of calibration rows under these thresholds.

    Best of rows that did not choose the thresholds. Say so where they did (`chose_thresholds`): what the choice made
    look good on them is then not compared with. Raises `InputError` when the local model was asked about no row.
    """
    rows = decided(table, local, remote, abstain)
    if not rows.asked.any():
        raise InputError("a reference needs rows about which the local model was asked; there is none")
    n = int(rows.asked.sum())
    reference = Reference(
        rows=n,
        local_threshold=check_threshold(local, "local threshold"),
        remote_threshold=check_threshold(remote, "remote threshold"),
        abstain_threshold=check_threshold(abstain, "abstain threshold"),
        local=Bins.of(table.local.confidences[rows.asked], bins),
        remote=Bins.of(table.remote.confidences[rows.remote_known], bins) if rows.remote_known.any() else None,
        request_rate=Share(int(rows.deferred.sum()), n),
        early_abstention=Share(int(rows.early.sum()), n),
        local_risk=_risk(rows.loss[rows.at_first]),
        remote_risk=_risk(rows.loss[rows.accepted & ~rows.at_first]),
        disagreement=_disagreement(table, rows.at_first),
        chose_thresholds=chose_thresholds,
    )
    return reference.to_mapping()


def _risk(losses: FloatArray) -> Share | None:
    losses = losses[~np.isnan(losses)]
    if not len(losses):
        return None
    total = float(losses.sum())
    return Share(int(total) if np.isin(losses, (0.0, 1.0)).all() else total, len(losses))


def _bins_to_mapping(bins: Bins) -> dict[str, Any]:
    several = np.flatnonzero(bins.tied > 1)
    return {
        "rows": bins.rows,
        "missing": bins.missing,
        "edges": bins.edges.tolist(),
        "counts": bins.counts.tolist(),
        "ties": [[int(edge), int(bins.tied_ranks[edge]), int(bins.tied[edge])] for edge in several],
    }


def _bins_of(values: Mapping[str, Any]) -> Bins:
    n, edges = _count(values["rows"]), np.array([float(edge) for edge in values["edges"]])
    counts = np.array([_count(count) for count in values["counts"]], dtype=np.int64)
    if len(counts) != len(edges) + 1 or not len(edges) or counts.sum() != n or (counts[:-1] < 1).any():
        raise ValueError(
            f"{len(edges)} edges need {len(edges) + 1} counts from 1 on (the last from 0) that sum to {n}"
        )
    missing = np.isnan(edges)
    if missing[int(missing.sum()) :].any() or (np.diff(edges[~missing]) < 0).any():
        raise ValueError("edges ascend, those without a confidence (nan) first")
    ranks = np.cumsum(counts)[:-1]
    tied_ranks, tied = np.ones(len(edges), dtype=np.int64), np.ones(len(edges), dtype=np.int64)
    for edge, rank, many in values["ties"]:
        if not (0 <= edge < len(edges) and 1 <= rank <= many <= n):
            raise ValueError(f"the tie {[edge, rank, many]} cannot be")
        tied_ranks[edge], tied[edge] = rank, many
    same = (edges[1:] == edges[:-1]) | (missing[1:] & missing[:-1])
    if (same & ((np.diff(tied_ranks) < 1) | (np.diff(tied) != 0))).any():
        raise ValueError("edges of one value need ties of one size whose ranks ascend")
    return Bins(n, _count(values["missing"]), edges, ranks, tied_ranks, tied)


def _share_of(values: Mapping[str, Any] | None, *, graded: bool = False) -> Share | None:
    if values is None:
        return None
    total, rows = values["count"], _count(values["rows"])
    share = Share(total if graded and isinstance(total, float) else _count(total), rows)
    if not 0.0 <= share.count <= rows:
        raise ValueError(f"{share.count} of {rows} rows cannot be")
    return share


def _flag(value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"chose_thresholds is true or false, not {value!r}")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no number of rows")
    return value
