"""Models of the Hugging Face hub, from a folder and through the hub's own client; the model is a tiny real one."""

import hashlib
import json
import sys
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import unquote

import numpy as np
import pytest

from bisupervised.errors import InputError, MissingExtra, ModelUnreachable
from bisupervised.models.hugging_face import HuggingFaceModel
from bisupervised.records import Evidence
from models.hugging_face_files import write_repository
from tiny_encoder import logits_of, write_graph

pytest.importorskip("onnx")
pytest.importorskip("tokenizers")


@pytest.fixture
def folder(tmp_path):
    return write_repository(tmp_path / "tiny-model")


class Hub:
    """Stands in for `snapshot_download`."""

    def __init__(self, folder):
        self.folder, self.asked = folder, []

    def __call__(self, name, **settings):
        self.asked.append((name, settings))
        if isinstance(self.folder, Exception):
            raise self.folder
        return str(self.folder)


def test_a_folder_is_loaded_with_its_labels(folder):
    model = HuggingFaceModel.load(folder)
    assert model.name == "tiny-model"
    assert model.classes == ["NEGATIVE", "POSITIVE"]
    assert model.provides == {Evidence.PROBABILITIES, Evidence.LOGITS}
    assert repr(model) == "HuggingFaceModel('tiny-model', 2 classes)"
    output = model.predict(["good film", "bad"])
    assert output.predictions.tolist() == ["POSITIVE", "NEGATIVE"]
    np.testing.assert_allclose(output.logits, [logits_of("good", "film"), logits_of("bad")], rtol=1e-6)
    assert len(model.predict([])) == 0
    assert HuggingFaceModel.load(str(folder), features="features").predict(["bad"]).features.shape == (1, 2)


def test_padding_is_masked_and_long_texts_are_cut_and_told(folder):
    model = HuggingFaceModel.load(folder)
    texts = ["bad", "good good good good", "good good good good bad"]
    batch = model.predict(texts)
    for row, text in enumerate(texts):
        np.testing.assert_allclose(model.predict([text]).logits[0], batch.logits[row], rtol=1e-6)
    np.testing.assert_allclose(batch.logits[1], batch.logits[2])
    assert model.is_cut(texts).tolist() == [False, False, True]
    assert not HuggingFaceModel.load(folder, max_length=5).is_cut(texts).any()


def test_a_text_without_a_token_has_no_evidence(folder):
    output = HuggingFaceModel.load(folder).predict(["", "good"])
    assert np.isnan(output.probabilities[0]).all()
    assert output.predictions[1] == "POSITIVE"


@pytest.mark.parametrize("types", [True, False])
def test_the_graph_gets_the_inputs_that_it_takes(tmp_path, types):
    model = HuggingFaceModel.load(write_repository(tmp_path / "m", types=types))
    assert model.predict(["good"]).predictions.tolist() == ["POSITIVE"]


def test_the_longest_input_is_the_least_that_is_said(tmp_path):
    for tokens, config, expected in [
        (128, {}, 128),
        (10**30, {}, 512),
        (10**30, {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        (10**30, {"max_position_embeddings": None}, 512),
        (1024, {"max_position_embeddings": 256}, 256),
    ]:
        folder = write_repository(tmp_path / f"{tokens}-{len(config)}-{expected}", tokens=tokens, **config)
        assert HuggingFaceModel.load(folder).max_length == expected
    (folder / "tokenizer_config.json").unlink()
    assert HuggingFaceModel.load(folder).max_length == 256


def test_a_name_is_fetched_from_the_hub_no_more_of_it_than_is_read(folder):
    hub = Hub(folder)
    model = HuggingFaceModel.load("owner/name", revision="abc", download=hub)
    assert model.name == "owner/name"
    name, settings = hub.asked[0]
    assert (name, settings["revision"]) == ("owner/name", "abc")
    assert {"config.json", "tokenizer.json", "model.onnx", "onnx/model.onnx"} <= set(settings["allow_patterns"])
    assert "*.onnx" not in settings["allow_patterns"]
    write_graph(folder / "onnx" / "model_q4.onnx")
    HuggingFaceModel.load("owner/name", graph="onnx/model_q4.onnx", download=hub)
    assert "onnx/model_q4.onnx" in hub.asked[1][1]["allow_patterns"]
    assert "onnx/model.onnx" not in hub.asked[1][1]["allow_patterns"]


def test_the_hubs_own_client_without_a_network_says_what_to_do(closed_port, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    download = partial(hub.snapshot_download, endpoint=f"http://127.0.0.1:{closed_port}", cache_dir=tmp_path)
    with pytest.raises(ModelUnreachable, match=r"owner/name cannot be fetched .*Without a network, give a folder"):
        HuggingFaceModel.load("owner/name", download=download)
    with pytest.raises(InputError, match="no name of a repository"):
        HuggingFaceModel.load("owner/--", download=download)


class HubServer(BaseHTTPRequestHandler):
    """As much of the hub as its client needs: one repository, `owner/name`, at one commit."""

    folder: Path
    commit = "c" * 40
    fetched: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        route = unquote(self.path).partition("?")[0]
        files = [p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file()]
        tree = [self._entry(file) for file in files]
        if route in ("/api/models/owner/name/revision/main", f"/api/models/owner/name/revision/{self.commit}"):
            said = {"id": "owner/name", "sha": self.commit, "siblings": [{"rfilename": file} for file in files]}
            self._answer(json.dumps(said).encode())
        elif route.startswith("/api/models/owner/name/tree/"):
            self._answer(json.dumps(tree).encode())
        elif route.startswith("/api/models/owner/name/"):
            self._refuse(404, "RevisionNotFound")
        elif route.startswith("/api/models/owner/gated"):
            self._refuse(403, "GatedRepo")
        elif route.startswith("/api/models/owner/broken"):
            self._refuse(400, "Other")
        elif route.startswith(f"/owner/name/resolve/{self.commit}/"):
            file = route.removeprefix(f"/owner/name/resolve/{self.commit}/")
            self.fetched.append(file)
            self._answer((self.folder / file).read_bytes())
        else:
            self._refuse(404, "RepoNotFound")

    def _entry(self, file: str) -> dict[str, Any]:
        content = (self.folder / file).read_bytes()
        return {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(folder, tmp_path):
    """The hub's own client, asking a server of this process."""
    client = pytest.importorskip("huggingface_hub")
    HubServer.folder = folder
    HubServer.fetched.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), HubServer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield partial(
            client.snapshot_download,
            endpoint=f"http://127.0.0.1:{server.server_port}",
            cache_dir=tmp_path / "cache",
            token=False,
        )
        server.shutdown()


def test_the_hubs_own_client_fetches_it_and_no_more_than_is_read(folder, hub):
    write_graph(folder / "onnx" / "model_q4.onnx")
    (folder / "pytorch_model.bin").write_bytes(b"weights of another kind")
    model = HuggingFaceModel.load("owner/name", download=hub)
    assert model.predict(["good film"]).predictions.tolist() == ["POSITIVE"]
    expected = {"config.json", "tokenizer.json", "tokenizer_config.json", "onnx/model.onnx"}
    assert set(HubServer.fetched) == expected


@pytest.mark.parametrize(
    ("name", "revision", "error", "says"),
    [
        ("owner/absent", None, InputError, "there is no owner/absent on the Hugging Face hub"),
        ("owner/gated", None, InputError, "wants its terms accepted"),
        ("owner/name", "v9", InputError, "no revision 'v9'"),
        ("owner/broken", None, ModelUnreachable, "cannot be fetched"),
    ],
)
def test_what_the_hub_refuses_is_said(hub, name, revision, error, says):
    with pytest.raises(error, match=says):
        HuggingFaceModel.load(name, revision=revision, download=hub)


def test_a_repository_without_an_onnx_file_says_how_to_export_one(folder):
    (folder / "onnx" / "model.onnx").unlink()
    with pytest.raises(InputError, match=r"no ONNX file model.onnx or .*optimum-cli export onnx --model owner/name"):
        HuggingFaceModel.load("owner/name", download=Hub(folder))
    write_graph(folder / "other.onnx")
    assert HuggingFaceModel.load(folder).predict(["bad"]).predictions[0] == "NEGATIVE"
    write_graph(folder / "second.onnx")
    with pytest.raises(InputError, match=r"choose one with graph=: other.onnx, second.onnx"):
        HuggingFaceModel.load(folder)
    with pytest.raises(InputError, match=r"has no third.onnx; choose"):
        HuggingFaceModel.load(folder, graph="third.onnx")


def test_files_that_are_missing_or_of_another_kind_are_named(folder):
    config = json.loads((folder / "config.json").read_text())
    for changed, says in [
        ({"id2label": None}, "names no classes"),
        ({"id2label": {"0": "a"}}, "at least two"),
        ({"id2label": {"0": "a", "1": "a"}}, "at least two different"),
        ({"id2label": {"1": "a", "2": "b"}}, "lacks the class '0'"),
        ({"problem_type": "multi_label_classification"}, "several labels"),
    ]:
        (folder / "config.json").write_text(json.dumps({**config, **changed}))
        with pytest.raises(InputError, match=says):
            HuggingFaceModel.load(folder)
    for content, says in [("{", "cannot be read"), ("[]", "no JSON object")]:
        (folder / "config.json").write_text(content)
        with pytest.raises(InputError, match=says):
            HuggingFaceModel.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"tiny-model has no config\.json"):
        HuggingFaceModel.load(folder)
    (folder / "config.json").write_text(json.dumps(config))
    write_graph(folder / "onnx" / "model.onnx", outputs=("features",))
    with pytest.raises(InputError, match=r"gives features and no logits. Export one"):
        HuggingFaceModel.load(folder)
    (folder / "onnx" / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match="cannot load"):
        HuggingFaceModel.load(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"no tokenizer.json.*save_pretrained"):
        HuggingFaceModel.load(folder)


def test_a_graph_with_other_inputs_is_refused(folder, linear_onnx):
    (folder / "onnx" / "model.onnx").write_bytes(Path(linear_onnx).read_bytes())
    with pytest.raises(InputError, match="takes x: it is no graph of a text classifier"):
        HuggingFaceModel.load(folder)


@pytest.mark.parametrize(("library", "name"), [("tokenizers", None), ("huggingface_hub", "owner/name")])
def test_a_library_that_is_missing_is_named_with_its_extra(folder, monkeypatch, library, name):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"{library}, .*bisupervised\[studies\]"):
        HuggingFaceModel.load(name or folder)


def test_what_cannot_be_meant_is_refused(folder, tmp_path):
    for name, settings, says in [
        (folder, {"revision": "main"}, "no revisions"),
        (tmp_path / "absent", {}, "there is no folder"),
        ("./absent", {}, "there is no folder"),
        ("a/b/c", {}, "there is no folder"),
        (folder, {"task": "image-classification"}, "those of 'text-classification' can"),
        (folder, {"max_length": 0}, "max_length"),
    ]:
        with pytest.raises(InputError, match=says):
            HuggingFaceModel.load(name, **settings)
