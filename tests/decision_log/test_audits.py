"""Audits: how often both models agree, written as cheaply as outcomes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from bisupervised.decision_log import Agreement, Audit, Counts, DecisionLog, agreement, buffer
from bisupervised.decision_log import log as log_module
from bisupervised.errors import InputError, LogError
from decision_log.making import local

NAN = float("nan")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


def test_agreement_is_counted_and_what_is_not_known_too(path):
    with DecisionLog(path) as log:
        log.write_audit(Audit("a", "support", "ham", True, cost=0.5, latency_s=1.0))
        log.write_audit(Audit("b", "support", "spam", False, cost=0.25))
        log.write_audit(Audit("c", "support", None, None, cost=NAN, cost_bound=2.0, error="timeout: 3 s"))
        log.write_audit(Audit("d", "support", ["ham"], None, cost=NAN, cost_bound=1.0))
        log.write_audit(Audit("e", "other", 1, True))
        log.flush()
        assert log.counts() == Counts(written=5, dropped=0, duplicates=0, pending=0)
    support = agreement(path, cascade="support")
    assert support == Agreement(4, compared=2, agreeing=1, failed=1, cost=0.75, cost_not_known=2, cost_bound=3.0)
    assert agreement(path).audits == 5
    assert agreement(path, cascade="nobody") == Agreement(0, 0, 0, 0, 0.0, 0, 0.0)


def test_by_time(path):
    with DecisionLog(path) as log:
        log.write_audit(Audit("a", "support", "ham", True))
    now = datetime.now(UTC)
    assert agreement(path, since=now - timedelta(hours=1)).audits == 1
    assert agreement(path, until=now - timedelta(hours=1)).audits == 0
    with pytest.raises(InputError, match="no time zone"):
        agreement(path, since=datetime(2024, 1, 1))


def test_audits_and_outcomes_share_a_commit_in_any_order(path):
    with DecisionLog(path) as log:
        log.write_audit(Audit("a", "support", "ham", True))
        log.write([local("a")], ["x"])
        log.write_audit(Audit("b", "support", "ham", True))
        log.flush()
        assert (len(log), agreement(path).audits) == (1, 2)
        assert log.counts().written == 3


def test_an_audit_that_is_stored_again_after_an_error_is_one(path, monkeypatch):
    store_rows, broken = log_module.store_rows, [True]

    def failing(connection, rows):
        if broken:
            raise sqlite3.OperationalError("disk I/O error")
        return store_rows(connection, rows)

    monkeypatch.setattr(log_module, "store_rows", failing)
    monkeypatch.setattr(buffer, "RETRY_S", 1_000.0)
    with DecisionLog(path) as log:
        log.write_audit(Audit("a", "support", "ham", True))
        log.write([local("a")], ["x"])
        with pytest.raises(LogError, match="disk I/O error"):
            log.flush()
        broken.clear()
        log.flush()
        assert log.counts() == Counts(written=2, dropped=0, duplicates=0, pending=0)
        assert (len(log), agreement(path).audits) == (1, 1)


def test_an_audit_that_cannot_be_stored_does_not_hold_up_the_others(path):
    with DecisionLog(path) as log:
        log.write_audit(Audit("a", "support", "ham", True))
        log.write_audit("no audit")  # type: ignore[arg-type]
        log.write([local("a")], ["x"])
        with pytest.raises(LogError, match="1 outcomes cannot be stored: AttributeError"):
            log.flush()
        assert log.counts() == Counts(written=2, dropped=1, duplicates=0, pending=0)


def test_predictions_of_any_kind_are_kept(path):
    with DecisionLog(path) as log:
        for id_, prediction in (("a", {"label": 1}), ("b", 2.5), ("c", None)):
            log.write_audit(Audit(id_, "support", prediction, None))
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT remote_prediction, agrees FROM audits ORDER BY id").fetchall()
    assert rows == [(b'{"label": 1}', None), (2.5, None), (None, None)]
