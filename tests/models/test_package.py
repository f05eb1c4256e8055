"""The package as a whole: what importing it loads, what is missing without an extra, how much memory it takes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest

import bisupervised.models as models
from bisupervised.errors import MissingExtra
from models.asking import counted


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_public_name_is_there_and_no_other() -> None:
    for name in models.__all__:
        assert getattr(models, name).__name__ == name
        assert name in dir(models)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = models.Nothing


def test_importing_every_public_name_loads_no_optional_library() -> None:
    loaded = run("""
        import sys
        from bisupervised.models import *
        heavy = {"aiohttp", "stamina", "tenacity", "sklearn", "onnxruntime", "scipy", "pandas", "pyarrow"}
        print(sorted(heavy & set(sys.modules)))
    """)
    assert loaded == "[]"


@pytest.mark.parametrize(
    ("library", "make", "extra"),
    [
        ("aiohttp", lambda: models.HttpJsonModel("http://localhost"), "http"),
        ("aiohttp", lambda: models.OpenAIModel("m", "http://localhost"), "http"),
        ("stamina", lambda: models.Retry(counted()[0]), "http"),
        ("onnxruntime", lambda: models.OnnxModel("model.onnx"), "onnx"),
        ("sklearn", lambda: models.SklearnModel(object()), "sklearn"),
    ],
)
def test_what_needs_a_library_that_is_absent_says_what_to_install(
    library: str, make: Any, extra: str, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'bisupervised\[{extra}\]'"):
        make()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_local_onnx_and_a_remote_http_model_fit_into_100_mb(server: Any, linear_onnx: Any) -> None:
    megabytes = run(f"""
        from bisupervised.cascade import BiSupervised, Level
        from bisupervised.models import OnnxModel, OpenAIModel, Retry
        from bisupervised.quantifiers import TokenLikelihood
        from bisupervised.supervisor import Supervisor
        local = Level(OnnxModel({str(linear_onnx)!r}), Supervisor(threshold=0.9))
        remote = Retry(OpenAIModel("m", {server.url("ok", "")!r}, prompt=lambda x: f"good: {{x}}"))
        with BiSupervised(local, Level(remote, Supervisor(TokenLikelihood(), threshold=0.0))) as system:
            outcomes = system.predict_many([[1.0, i / 100] for i in range(200)])
        assert 0.0 < outcomes.request_rate < 1.0 == outcomes.coverage
        lines = open("/proc/self/status").read().splitlines()
        print(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")))
    """)
    print("RSS", megabytes)
    assert float(megabytes) < 100.0
