"""A folder with what lies in a repository of the Hugging Face hub: a tiny real text classifier."""

import json

from tiny_encoder import write_graph, write_tokenizer

LABELS = {"0": "NEGATIVE", "1": "POSITIVE"}


def write_repository(folder, *, graph="onnx/model.onnx", types=True, tokens=4, **config):
    """What lies in a repository; keys of config.json that are None are left out."""
    (folder / graph).parent.mkdir(parents=True)
    write_graph(folder / graph, types=types)
    write_tokenizer(folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": tokens}))
    said = {"model_type": "bert", "id2label": LABELS, "pad_token_id": 0, "max_position_embeddings": 512, **config}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in said.items() if v is not None}))
    return folder
