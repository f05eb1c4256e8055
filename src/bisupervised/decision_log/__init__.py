"""The decision log: every outcome is one row in SQLite, labels come later, and it reads as the one table."""

from bisupervised.decision_log.buffer import Counts
from bisupervised.decision_log.log import DecisionLog, add_labels
from bisupervised.decision_log.pending import PendingInputs
from bisupervised.decision_log.reading import read_log

__all__ = ["Counts", "DecisionLog", "PendingInputs", "add_labels", "read_log"]
