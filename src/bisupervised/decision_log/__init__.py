"""The decision log: every outcome is one row in SQLite, labels come later, and it reads as the one table.

Beside the outcomes, one file holds what a gateway must not forget: the numbers of its requests (`Sequences`), its
budgets (`Ledger`), changes of modes and thresholds (`Changes`), and audits.

The port: the names below take a location and say nothing of SQLite. A PostgreSQL log joins behind them. What it has
to bring is `database.py` (connections, transactions, errors), `schema.py` (tables), and SQL, which is only in
functions that are given a connection (`store.py`, `losses.py`, `budgets.py`, `audits.py`, the ends of `sequence.py`
and `changes.py`), in `reading.py`, `queries.py` and `pending.py`. Session-level advisory locks would take the place
of the files in `presence.py`. `tests/decision_log/test_contract.py` runs for every store in its `STORES`.
"""

from bisupervised.decision_log.accounts import Hold
from bisupervised.decision_log.audits import Agreement, Audit, agreement
from bisupervised.decision_log.buffer import Counts
from bisupervised.decision_log.changes import ALL_CASCADES, Change, Changes
from bisupervised.decision_log.details import Details
from bisupervised.decision_log.ids import new_id
from bisupervised.decision_log.ledger import Ledger
from bisupervised.decision_log.log import DecisionLog, add_labels, label
from bisupervised.decision_log.losses import Losses
from bisupervised.decision_log.pending import PendingInputs
from bisupervised.decision_log.queries import outcome, outcomes, stats
from bisupervised.decision_log.reading import read_log
from bisupervised.decision_log.sequence import Sequences

__all__ = [
    "ALL_CASCADES",
    "Agreement",
    "Audit",
    "Change",
    "Changes",
    "Counts",
    "DecisionLog",
    "Details",
    "Hold",
    "Ledger",
    "Losses",
    "PendingInputs",
    "Sequences",
    "add_labels",
    "agreement",
    "label",
    "new_id",
    "outcome",
    "outcomes",
    "read_log",
    "stats",
]
