"""A recording goes on where it was: nothing is asked twice, nothing that was answered is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bisupervised.errors import InputError
from bisupervised.records import LevelName
from bisupervised.studies.live.recording import IN_A_ROW, PART, RecordingStopped, left_to_ask, record_study
from studies.live import fake_study
from studies.live.fake_study import Local, Remote, silent


@pytest.fixture
def remote():
    return Remote()


@pytest.fixture
def url(remote):
    with remote.serving() as url:
        yield url


def record(url, folder, *args, **options):
    recording = {k: options.pop(k) for k in ("fresh", "retry_failed", "kept_as") if k in options}
    return record_study(fake_study.fake_study(url, *args, **options), folder, progress=silent, **recording)


def test_each_model_is_asked_about_one_input_at_a_time_and_what_it_said_is_kept(url, remote, tmp_path):
    local = Local()
    table = record(url, tmp_path, 60, local=local)
    assert [len(call) for call in local.calls] == [1] * 60
    assert set(remote.asked.values()) == {1}
    assert len(table) == 60
    inputs = np.array([call[0] for call in local.calls])
    assert table.labels.tolist() == [str(int(x > 0)) for x in inputs]
    assert table.correct("remote").mean() == 1.0
    assert 0.5 < table.correct("local").mean() < 1.0
    assert table.local.features.shape == (60, 3)
    assert np.allclose(table.extra["local_cpu_s"], 0.25)
    assert np.isnan(table.extra["remote_cpu_s"]).all()
    assert (table.extra["remote_prompt_tokens"] == 12).all()
    assert (table.remote.latency_s > 0).all()
    assert "local_score_mutual_information" in table.extra  # the samples themselves are not kept


def test_a_second_run_asks_nothing_and_gives_the_same(url, remote, tmp_path):
    first = record(url, tmp_path)
    again = Local()
    second = record(url, tmp_path, local=again)
    assert again.calls == []
    assert max(remote.asked.values()) == 1
    assert second.ids.tolist() == first.ids.tolist()
    assert np.array_equal(second.remote.confidences, first.remote.confidences, equal_nan=True)
    assert second.remote.predictions.tolist() == first.remote.predictions.tolist()


def test_a_larger_run_goes_on_from_a_smaller_one(url, remote, tmp_path):
    record(url, tmp_path, 10)
    assert len(record(url, tmp_path, 30)) == 30
    assert sum(remote.asked.values()) == 30
    assert len(record(url, tmp_path, 10)) == 10


def test_a_remote_that_dies_in_the_middle_is_asked_about_the_rest_alone(url, remote, tmp_path):
    remote.dies_after = 77
    with pytest.raises(
        RecordingStopped, match=r"failed 5 times in a row .*77 of 130 answers are kept.*the same command"
    ):
        record(url, tmp_path)
    assert remote.refused == IN_A_ROW
    assert left_to_ask(fake_study.fake_study(url), tmp_path, LevelName.REMOTE).tolist() == list(range(77, 130))
    remote.dies_after = None
    again = Local()
    table = record(url, tmp_path, local=again)
    assert again.calls == []
    assert len(remote.asked) == 130
    assert set(remote.asked.values()) == {1}
    assert all(error is None for error in table.remote.errors)


def test_a_remote_that_dies_just_before_a_part_is_full_leaves_no_failed_answers_behind(url, remote, tmp_path):
    remote.dies_after = PART - 2
    with pytest.raises(RecordingStopped, match=f"{PART - 2} of 130"):
        record(url, tmp_path)
    remote.dies_after = None
    assert all(error is None for error in record(url, tmp_path).remote.errors)


def test_a_remote_that_never_answers_says_why(url, remote, tmp_path):
    remote.dies_after = 0
    with pytest.raises(RecordingStopped, match=r"out of memory.*0 of 130"):
        record(url, tmp_path)


def test_a_killed_process_loses_a_part_at_most(url, remote, tmp_path):
    remote.seconds = 0.004
    script = Path(fake_study.__file__)
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path), url], env=os.environ)
    deadline = time.monotonic() + 30.0
    while sum(remote.asked.values()) < PART + 20 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    asked_before = sum(remote.asked.values())
    assert PART + 20 <= asked_before < 130
    assert len(record(url, tmp_path)) == 130
    twice = [x for x, times in remote.asked.items() if times > 1]
    assert len(twice) <= PART
    assert sum(remote.asked.values()) == 130 + len(twice)
    assert len(twice) < asked_before  # the first part was kept


def test_an_interruption_loses_nothing(url, remote, tmp_path):
    class Interrupted(Local):
        def predict(self, inputs):
            if len(self.calls) == 20:
                raise KeyboardInterrupt
            return super().predict(inputs)

    with pytest.raises(KeyboardInterrupt):
        record(url, tmp_path, 40, local=Interrupted())
    again = Local()
    record(url, tmp_path, 40, local=again)
    assert len(again.calls) == 20


def test_unreadable_replies_are_answers_that_are_kept_apart_and_asked_again_on_demand(url, remote, tmp_path):
    inputs = fake_study.fake_study(url).inputs
    remote.instead = {str(x): ("perhaps", -3.0) for x in inputs[:8]}  # more than would count as a dead model
    table = record(url, tmp_path, 20)
    errors = table.remote.errors.tolist()
    assert [error is not None for error in errors] == [True] * 8 + [False] * 12
    assert all(error.startswith("unreadable:") for error in errors[:8])
    assert np.isnan(table.remote.confidences[:8]).all()
    assert table.correct("remote")[:8].tolist() == [0.0] * 8
    assert (table.extra["remote_prompt_tokens"][:8] == 12).all()  # they were paid for
    record(url, tmp_path, 20)
    assert sum(remote.asked.values()) == 20
    remote.instead = {}
    table = record(url, tmp_path, 20, retry_failed=True)
    assert sum(remote.asked.values()) == 28
    assert table.remote.errors.tolist() == [None] * 20


def test_evidence_that_breaks_its_rules_costs_a_score_and_not_the_recording(url, remote, tmp_path):
    x = str(fake_study.fake_study(url).inputs[3])
    remote.instead = {x: ("Yes!", -0.1)}  # with the alternatives the probabilities sum to more than 1
    table = record(url, tmp_path, 10)
    assert table.remote.errors[3] is None
    assert table.remote.predictions[3] == "1"
    scores = table.extra["remote_score_token_entropy_mean"]
    assert np.isnan(scores[3])
    assert not np.isnan(np.delete(scores, 3)).any()


def test_the_answers_of_another_model_are_refused_unless_they_are_forgotten_or_kept_elsewhere(url, remote, tmp_path):
    remote.dies_after = 7
    with pytest.raises(RecordingStopped):
        record(url, tmp_path, 20)
    remote.dies_after = None
    with pytest.raises(InputError, match=r"remote holds answers of asked, and now other is asked.*--fresh"):
        record(url, tmp_path, 20, remote_name="other")
    record(url, tmp_path, 20, remote_name="other", kept_as={"remote": "remote-other"})
    assert sum(remote.asked.values()) == 27
    record(url, tmp_path, 20, remote_name="other", fresh=True)
    assert sum(remote.asked.values()) == 47


def test_two_processes_do_not_pay_for_the_same_answers(url, remote, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    folder = tmp_path / "imdb" / "remote"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process records into"):
            record(url, tmp_path, 5)
    assert not remote.asked
    assert len(record(url, tmp_path, 5)) == 5


def test_a_file_that_is_no_part_is_refused(url, tmp_path):
    folder = tmp_path / "imdb" / "local"
    folder.mkdir(parents=True)
    (folder / "part-00000.npz").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="part-00000"):
        record(url, tmp_path, 5)


def test_what_is_graded_is_graded_after_a_resumption_too(url, tmp_path):
    """An empty answer is an answer."""
    seen = {}

    def grade(predictions, rows):
        seen[len(seen)] = predictions.tolist()
        return (rows % 2).astype(float)

    changes = {"labels": None, "grade": grade}
    first = record(url, tmp_path, 10, **changes)
    second = record(url, tmp_path, 10, **changes)
    assert first.correct("local").tolist() == [0.0, 1.0] * 5
    assert second.correct("remote").tolist() == first.correct("remote").tolist()
    assert seen[0] == seen[2]
