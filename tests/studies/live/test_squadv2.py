"""The SQuADv2 study: its rows, its prompt, what it makes of replies. No language model runs here."""

from pathlib import Path

import numpy as np
import pytest

from bisupervised.errors import InputError, ModelError
from bisupervised.records import Evidence
from bisupervised.studies.live import llama_server
from bisupervised.studies.live.llama_server import LlamaModel
from bisupervised.studies.live.squadv2 import MAX_PASSAGE, messages, read_reply, squadv2
from bisupervised.studies.live.study import SourceMissing

DATA = Path(__file__).parents[4] / "shared" / "data"


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("The 10th century.", "10th century"),
        ("Unanswerable.", ""),
        ("unanswerable: the passage does not say", ""),
        ("", None),
        (" \n", None),
    ],
)
def test_replies_are_read_as_answers_no_answer_or_nothing(reply, answer):
    assert read_reply(reply) == answer


def test_the_prompts_of_one_passage_differ_in_nothing_before_the_question():
    """What llama.cpp's cache, and a provider's, can serve."""
    first, second = (messages({"context": "A passage.", "question": q}) for q in ("Who?", "When, and where?"))
    assert first[:-1] == second[:-1]
    assert first[-1]["content"] == "Passage: A passage.\n\nQuestion: Who?"
    assert second[-1]["content"].startswith("Passage: A passage.\n\nQuestion: ")


def test_a_passage_longer_than_the_context_is_cut():
    content = messages({"context": "x" * (MAX_PASSAGE + 5), "question": "Who?"})[-1]["content"]
    assert content.count("x") == MAX_PASSAGE


def test_missing_questions_say_how_to_get_them(tmp_path):
    with pytest.raises(SourceMissing, match="replication package"):
        squadv2(tmp_path, tmp_path)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return squadv2(DATA, tmp_path_factory.mktemp("models"))  # no model is needed to make it


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "squad").exists(), reason="../shared/data/squad is missing")
class TestTheRows:
    def test_whole_passages_follow_each_other(self, study):
        passages = study.extra["passage"]
        starts = np.flatnonzero(np.diff(passages, prepend=-1))
        assert len(starts) == len(np.unique(passages))

    def test_a_limit_takes_the_first_passages_whole(self, study, tmp_path):
        some = squadv2(DATA, tmp_path, limit=50)
        n = len(some.inputs)
        assert 50 <= n < 100
        assert list(some.ids) == list(study.ids)[:n]
        assert study.extra["passage"][n] != study.extra["passage"][n - 1]
        assert squadv2(DATA, tmp_path, limit=10**9).ids == study.ids

    def test_every_column_has_a_number_for_every_question(self, study):
        n = len(study.inputs)
        assert len(set(study.ids)) == n
        assert study.cluster == "passage"
        for column in study.extra.values():
            assert len(column) == n
            assert np.isfinite(column).all()
        assert set(np.unique(study.extra["is_possible"])) == {0.0, 1.0}
        assert study.labels is None
        assert not study.truncated["local"].any()  # the longest passage has 4,063 characters

    def test_gold_answers_are_right_and_no_answer_is_right_where_there_is_none(self, study):
        rows = np.arange(200)
        gold = np.array([read_reply((study.inputs[row]["answers"] or ["unanswerable"])[0]) for row in rows], object)
        assert study.grade(gold, rows).tolist() == [1.0] * 200
        possible = study.extra["is_possible"][rows]
        np.testing.assert_array_equal(study.grade(np.array([""] * 200, object), rows), 1.0 - possible)
        assert np.isnan(study.grade(np.array([None], object), rows[:1])).all()


class FakeServer:
    """llama.cpp's server object: what it was asked, and the reply it is told to give."""

    def __init__(self, reply):
        self.reply = reply
        self.asked = []

    def handle_chat_completions(self, body):
        self.asked.append(body)
        return self.reply


def reply_of(text: str) -> dict:
    top = [{"token": "Rome", "logprob": -0.1}, {"token": "Mil", "logprob": -2.5}]
    content = [{"token": "Rome", "logprob": -0.1, "top_logprobs": top}]
    choice = {"message": {"role": "assistant", "content": text}, "logprobs": {"content": content}}
    return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}


@pytest.fixture
def model_with(monkeypatch):
    def made(reply):
        server = FakeServer(reply)
        monkeypatch.setattr(llama_server, "open_server", lambda path: server)
        return LlamaModel(Path("m.gguf"), lambda x: {"messages": x}, read_reply), server

    return made


def test_an_answer_in_process_brings_tokens_and_their_alternatives(model_with):
    model, server = model_with(reply_of(" The Rome "))
    output = model.predict(["question"])
    assert server.asked == [{"messages": "question"}]
    assert output.predictions.tolist() == ["rome"]
    assert output.token_logprobs[0].tolist() == [-0.1]
    assert output.token_alternatives[0].tolist() == [[-0.1, -2.5]]
    assert (output.prompt_tokens[0], output.completion_tokens[0]) == (7.0, 1.0)
    assert {Evidence.TOKEN_LOGPROBS, Evidence.TOKEN_ALTERNATIVES, Evidence.TEXT} == model.provides
    assert not output.failures


def test_an_empty_answer_is_a_failure(model_with):
    model, _ = model_with(reply_of("  "))
    assert model.predict(["question"]).failures[0].kind == "unreadable"


def test_an_error_of_llama_cpp_is_one_of_the_model_with_its_words(model_with):
    model, _ = model_with({"error": {"code": 400, "message": "request (12030 tokens) exceeds the context"}})
    with pytest.raises(ModelError, match=r"exceeds the context"):
        model.predict(["question"])


def test_no_question_and_two_at_once(model_with):
    model, server = model_with(reply_of("Rome"))
    assert len(model.predict([])) == 0
    with pytest.raises(InputError, match="at most 1"):
        model.predict(["a", "b"])
    assert server.asked == []
