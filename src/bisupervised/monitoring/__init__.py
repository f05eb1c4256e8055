"""Watching a running system: has the traffic moved, are the promises kept, what would other thresholds do?

`reference_of` (what `thresholds.toml` remembers of its calibration rows), `drift` (all questions on recorded rows),
`ExchangeabilityMartingale` and `LimitTest` (row by row, with a state that can be saved), `confidence_sequence`,
`AdaptiveThreshold` (proposes thresholds for a long-run target; nothing uses it unless somebody builds it).
"""

from bisupervised.monitoring.adaptive import AdaptiveThreshold, Feedback, Proposal
from bisupervised.monitoring.auditing import Audits
from bisupervised.monitoring.drift import drift
from bisupervised.monitoring.exchangeability import ExchangeabilityMartingale
from bisupervised.monitoring.findings import Drift, Finding, Said, Unknown, Verdict
from bisupervised.monitoring.following import Followed, follow
from bisupervised.monitoring.promises import promises_of
from bisupervised.monitoring.questions import Limit
from bisupervised.monitoring.ranks import Bins, Share
from bisupervised.monitoring.rates import LimitTest, RateBounds, confidence_sequence
from bisupervised.monitoring.reference import Reference, reference_of

__all__ = [
    "AdaptiveThreshold",
    "Audits",
    "Bins",
    "Drift",
    "ExchangeabilityMartingale",
    "Feedback",
    "Finding",
    "Followed",
    "Limit",
    "LimitTest",
    "Proposal",
    "RateBounds",
    "Reference",
    "Said",
    "Share",
    "Unknown",
    "Verdict",
    "confidence_sequence",
    "drift",
    "follow",
    "promises_of",
    "reference_of",
]
