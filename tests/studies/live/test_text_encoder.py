"""Encoders with their tokenizers: a tiny real one."""

import json

import numpy as np
import pytest

from bisupervised.errors import InputError
from bisupervised.records import Evidence
from bisupervised.studies.live.text_encoder import encoder_config, notes_on_training, text_encoder, tokenizer_of
from tiny_encoder import VECTORS, logits_of, write_encoder, write_graph

pytest.importorskip("onnx")


@pytest.fixture
def folder(tmp_path):
    return write_encoder(tmp_path / "tiny_encoder")


def test_it_gives_probabilities_logits_and_features(folder):
    model = text_encoder(folder)
    assert model.name == "tiny_encoder"
    assert model.provides == {Evidence.PROBABILITIES, Evidence.LOGITS, Evidence.FEATURES}
    output = model.predict(["Good film", "bad"])
    logits = np.array([logits_of("good", "film"), logits_of("bad")])
    np.testing.assert_allclose(output.logits, logits, rtol=1e-6)
    np.testing.assert_allclose(output.features[1], VECTORS[3], rtol=1e-6)
    np.testing.assert_allclose(output.probabilities, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), rtol=1e-6)
    assert output.predictions.tolist() == ["positive", "negative"]


def test_padding_changes_nothing(folder):
    model = text_encoder(folder)
    batch = model.predict(["bad", "good film good film"])
    np.testing.assert_allclose(batch.logits[0], model.predict(["bad"]).logits[0], rtol=1e-6)


def test_long_texts_are_cut_and_counted(folder):
    tokenizer = tokenizer_of(folder)
    texts = ["good", "good good good good", "good good good good bad"]
    assert tokenizer.is_cut(texts).tolist() == [False, False, True]
    assert tokenizer.counts(texts).tolist() == [1.0, 4.0, 5.0]
    cut, whole = text_encoder(folder).predict([texts[2], texts[1]]).logits
    np.testing.assert_allclose(cut, whole)


def test_a_config_may_be_handed_in_instead_of_a_file(folder):
    (folder / "config.json").unlink()
    write_graph(folder / "own.onnx", outputs=("probs",))
    config = {"file": "own.onnx", "classes": [0, 1], "max_length": 8, "outputs": {"probabilities": "probs"}}
    model = text_encoder(folder, config=config)
    assert model.provides == {Evidence.PROBABILITIES}
    assert model.predict(["bad film"]).predictions.tolist() == [0]


def test_what_cannot_work_is_refused_with_the_file(folder, tmp_path):
    with pytest.raises(InputError, match=r"there is no .*config.json"):
        text_encoder(tmp_path)
    for written, says in [
        ("{", "does not describe"),
        ("[1]", "does not describe"),
        ('{"classes": [1]}', "max_length"),
    ]:
        (folder / "config.json").write_text(written)
        with pytest.raises(InputError, match=says):
            encoder_config(folder)
    (folder / "config.json").write_text(json.dumps({"classes": [0, 1], "max_length": 0}))
    with pytest.raises(InputError, match="at least 1 token"):
        tokenizer_of(folder)
    (folder / "config.json").write_text(json.dumps({"classes": [0, 1], "max_length": 8}))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer.json is no tokenizer"):
        text_encoder(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(InputError, match=r"holds no model_int8.onnx and no model.onnx"):
        text_encoder(folder)


def test_what_an_encoder_has_seen_is_said(folder, tmp_path):
    assert notes_on_training(tmp_path / "absent", 100, 3) == []
    assert notes_on_training(folder, 100, 3) == []
    write_encoder(folder, rows=100)
    assert notes_on_training(folder, 100, 3)[0].startswith("3 of the 100 texts")
    assert notes_on_training(folder, 97, 3) == []
