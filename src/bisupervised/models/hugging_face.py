"""A text classifier named on the Hugging Face hub, run from its ONNX weights: no torch, no foreign code.

Read are the files of the hub's own form: `config.json` (labels in `id2label`), `tokenizer.json`,
`tokenizer_config.json` (the longest input), and an ONNX graph, at the top or in `onnx/`, as `optimum-cli export onnx`
writes it. A local folder with the same files works as well, and needs no network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bisupervised.errors import BiSupervisedError, InputError, MissingExtra, ModelUnreachable
from bisupervised.models.onnx import OnnxModel, open_session
from bisupervised.models.tokenizer import Tokenizer
from bisupervised.records import BoolArray, ModelOutput

FILES: Final = ("config.json", "tokenizer.json", "tokenizer_config.json")
#: The graphs that are looked for; repositories hold many smaller ones beside them, which are not fetched unasked.
GRAPHS: Final = ("model.onnx", "onnx/model.onnx")
#: Tokens that are read where the model does not say how many it takes.
DEFAULT_TOKENS: Final = 512
TASK: Final = "text-classification"
_UNLIMITED: Final = 1_000_000  # tokenizers without a limit say 10^30
_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
_FROM_PAD_ON: Final = ("roberta", "xlm-roberta", "camembert")  # count positions from the padding token's id on

Download = Callable[..., Any]


class HuggingFaceModel:
    """Class probabilities and logits of a text classifier, whose classes are the labels of its `config.json`.

    Made by `load`. Inputs are texts; one longer than `max_length` tokens is cut, and `is_cut` tells which. The texts
    of a call are padded to the longest, and the padding is masked.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        graph: str | None = None,
        features: str | None = None,
        max_length: int | None = None,
        threads: int = 1,
    ) -> None:
        config = _json(folder, "config.json", name)
        self.name = name
        self.classes = _labels(config, name)
        self.max_batch: int | None = None
        self.max_length = _longest(config, folder, name) if max_length is None else max_length
        if not (folder / "tokenizer.json").is_file():
            raise InputError(
                f"{name} has no tokenizer.json, the form that is read here. With transformers installed, "
                f"AutoTokenizer.from_pretrained({name!r}).save_pretrained(FOLDER) writes one"
            )
        path = _graph(folder, graph, name)
        session = open_session(path, threads)
        taken, given = ([node.name for node in ends] for ends in (session.get_inputs(), session.get_outputs()))
        if foreign := [one for one in taken if one not in _INPUTS]:
            raise InputError(f"{path} takes {', '.join(foreign)}: it is no graph of a text classifier")
        if "logits" not in given:
            raise InputError(f"{path} gives {', '.join(given)} and no logits. {_export(name)}")
        self._tokenizer = Tokenizer(
            folder / "tokenizer.json", self.max_length, inputs=taken, pad=int(config.get("pad_token_id") or 0)
        )
        self._model = OnnxModel(
            session,
            self.classes,
            prepare=self._tokenizer,
            output="logits",
            softmax=True,
            features=features,
            name=name,
        )
        self.provides = self._model.provides

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        task: str = TASK,
        graph: str | None = None,
        features: str | None = None,
        max_length: int | None = None,
        threads: int = 1,
        download: Download | None = None,
    ) -> HuggingFaceModel:
        """The model of a repository, `owner/name`, or of a local folder with its files.

        `revision` is a branch, a tag or a commit (name a commit where results are to be repeatable); `graph` the ONNX
        file in it (default: `model.onnx`, at the top or in `onnx/`); `features` a further output of the graph that
        is evidence; `max_length` the tokens that are read (default: as many as the model takes). `download` stands
        in for `huggingface_hub.snapshot_download`, which keeps what it fetched and uses it again without a network.

        Raises `InputError` for a repository that is not there or lacks a file, `ModelUnreachable` without a network,
        `MissingExtra` without the libraries.
        """
        if task != TASK:
            raise InputError(f"models of the task {task!r} cannot be loaded; those of {TASK!r} can")
        folder, shown = Path(name).expanduser(), str(name)
        if folder.is_dir():
            if revision is not None:
                raise InputError(f"{folder} is a folder, which has no revisions: leave out revision")
            shown = folder.resolve().name
        elif isinstance(name, Path) or shown.startswith((".", "/", "~")) or shown.count("/") > 1:
            raise InputError(f"there is no folder {folder}")
        else:
            folder = _fetched(shown, revision, graph, download)
        return cls(folder, name=shown, graph=graph, features=features, max_length=max_length, threads=threads)

    def __repr__(self) -> str:
        return f"HuggingFaceModel({self.name!r}, {len(self.classes)} classes)"

    def predict(self, inputs: Sequence[Any]) -> ModelOutput:
        """The output for n texts. Raises `ModelError` when ONNX Runtime does."""
        return self._model.predict(inputs)

    def is_cut(self, texts: Sequence[str]) -> BoolArray:
        """(n,) whether a text has more tokens than are read."""
        return self._tokenizer.is_cut(texts)


# ---------------------------------------------------------------- the hub


def _fetched(name: str, revision: str | None, graph: str | None, download: Download | None) -> Path:
    fetch = _snapshot_download() if download is None else download
    graphs = GRAPHS if graph is None else (graph,)
    patterns = [*FILES, *graphs, *(f"{one}_data" for one in graphs)]
    try:
        return Path(fetch(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the hub's, its HTTP client's and the system's, of no common base
        raise _said(error, name, revision) from error


def _snapshot_download() -> Download:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtra("huggingface_hub", "studies") from error
    return snapshot_download


def _said(error: Exception, name: str, revision: str | None) -> BiSupervisedError:
    """What the library raised, as one of ours. By its name: a `download` of one's own needs no huggingface_hub."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "GatedRepoError" in kinds:
        return InputError(f"{name} wants its terms accepted: do so at huggingface.co/{name}, then hf auth login")
    if "RevisionNotFoundError" in kinds:
        return InputError(f"{name} has no revision {revision!r} on the Hugging Face hub")
    if "RepositoryNotFoundError" in kinds:
        return InputError(f"there is no {name} on the Hugging Face hub, and no such folder (private: hf auth login)")
    if "HFValidationError" in kinds:
        return InputError(f"{name!r} is no name of a repository, owner/name, and no folder")
    first = (str(error).splitlines() or [""])[0]
    return ModelUnreachable(
        f"{name} cannot be fetched from the Hugging Face hub ({type(error).__name__}: {first}). Without a network, "
        f"give a folder with {', '.join(FILES)} and model.onnx"
    )


# ---------------------------------------------------------------- its files


def _json(folder: Path, file: str, name: str) -> Mapping[str, Any]:
    try:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{name} has no {file}, which every model on the hub has") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{file} of {name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} of {name} is no JSON object")
    return content


def _labels(config: Mapping[str, Any], name: str) -> list[str]:
    """The classes in the order of the logits."""
    given = config.get("id2label")
    if not isinstance(given, dict) or not given:
        raise InputError(f"config.json of {name} names no classes (id2label): it is no classifier")
    if config.get("problem_type") == "multi_label_classification":
        raise InputError(f"{name} gives several labels at once; a level takes one label per input")
    try:
        labels = [str(given[str(place)]) for place in range(len(given))]
    except KeyError as error:
        raise InputError(f"id2label in config.json of {name} lacks the class {error}; they count from 0") from error
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise InputError(f"{name} has the classes {', '.join(labels)}: at least two different ones are needed")
    return labels


def _longest(config: Mapping[str, Any], folder: Path, name: str) -> int:
    """The tokens that the model takes: the smaller of what its tokenizer and its positions allow."""
    limits = []
    if (folder / "tokenizer_config.json").is_file():
        limits.append(_json(folder, "tokenizer_config.json", name).get("model_max_length"))
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in _FROM_PAD_ON:
        positions -= int(config.get("pad_token_id") or 0) + 1
    limits.append(positions)
    known = [int(one) for one in limits if isinstance(one, int | float) and 1 <= one < _UNLIMITED]
    return min(known, default=DEFAULT_TOKENS)


def _graph(folder: Path, graph: str | None, name: str) -> Path:
    there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.onnx"))
    wanted = GRAPHS if graph is None else (graph,)
    found = next((one for one in wanted if (folder / one).is_file()), None)
    if found is None and graph is None and len(there) == 1:
        found = there[0]
    if found is not None:
        return folder / found
    if there:
        raise InputError(f"{name} has no {' and no '.join(wanted)}; choose one with graph=: {', '.join(there)}")
    other = "" if graph is not None else ", or name it with graph= where it is called otherwise"
    raise InputError(f"{name} has no ONNX file {' or '.join(wanted)}{other}. {_export(name)}")


def _export(name: str) -> str:
    return f"Export one: optimum-cli export onnx --model {name} --task {TASK} FOLDER, and load FOLDER"
