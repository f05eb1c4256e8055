"""The core's goals beside what this machine does: `python benchmarks/core.py`. Never a timed test.

Each figure is the median of several runs in this process, or in a fresh one where memory or import time is measured.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.calibration.joint_grid import joint_grid
from bisupervised.calibration.rule import CalibrationRows
from bisupervised.cascade import BiSupervised, Level
from bisupervised.decision import decide_and_answer
from bisupervised.quantifiers import MaxSoftmax
from bisupervised.records import Evidence, ModelOutput
from bisupervised.supervisor import Supervisor

HERE = Path(__file__).resolve().parent


def median_s(function: Callable[[], Any], *, runs: int = 15) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def show(what: str, figure: str, goal: str, met: bool) -> None:
    print(f"{what:<66} {figure:>16}   goal {goal:<10} {'ok' if met else 'MISSED'}", flush=True)


def in_fresh_process(code: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return values


def deciding_recorded_rows(n: int = 1_000_000) -> None:
    rng = np.random.default_rng(0)
    local, remote = rng.random(n), rng.random(n)
    answers = rng.integers(0, 9, n), rng.integers(0, 9, n)

    def least() -> None:
        np.greater_equal(local, 0.5)
        np.greater_equal(remote, 0.5)
        answers[0].copy()
        answers[1].copy()

    def ours() -> None:
        decide_and_answer(local, 0.5, remote, 0.5, *answers)

    # In turn, so that both meet the same noise.
    ratio = statistics.median(median_s(ours, runs=1) / median_s(least, runs=1) for _ in range(41))
    show(f"deciding {n:,} recorded rows / two comparisons and two copies", f"{ratio:.2f} x", "<= 3 x", ratio <= 3)


class Instant:
    """A model that takes no time: what is left is the cascade's own."""

    name, max_batch, provides = "instant", None, frozenset({Evidence.PROBABILITIES})

    def __init__(self, classes: int) -> None:
        p = np.random.default_rng(0).random((1, classes))
        self._output = ModelOutput(np.array([0]), probabilities=p / p.sum())

    def predict(self, inputs: Any) -> ModelOutput:
        return self._output


def one_decision() -> None:
    model = Instant(1000)
    for name, threshold, goal in (("trusted at once", -np.inf, 50), ("deferred: two decisions", np.inf, 100)):
        local = Level(model, Supervisor(MaxSoftmax(), threshold), inline=True)
        system = BiSupervised(local, Level(model, Supervisor(MaxSoftmax(), -np.inf), inline=True))
        alone = median_s(lambda: model.predict([0]), runs=2000)
        beyond = (median_s(lambda system=system: system.predict(0), runs=2000) - alone) * 1e6
        what = f"one decision over 1,000 classes, beyond the model: {name}"
        show(what, f"{beyond:.1f} us", f"< {goal} us", beyond < goal)


def grid_of_thresholds() -> None:
    rng = np.random.default_rng(0)
    rows = CalibrationRows.of(
        rng.random(50_000), rng.random(50_000) < 0.8, rng.random(50_000), rng.random(50_000) < 0.9
    )
    seconds = median_s(lambda: joint_grid(rows).counts(0))
    show("two-threshold grid, 400 x 400 over 50,000 rows", f"{seconds * 1000:.1f} ms", "< 50 ms", seconds < 0.05)


IMPORT = """
import json, sys, time
start = time.perf_counter()
exec(sys.argv[1])
seconds = time.perf_counter() - start
known = set(sys.stdlib_module_names) | {"bisupervised", "numpy", "__main__"}
files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
others = {name.partition(".")[0] for name, file in files.items() if "site-packages" in file} - known
print(json.dumps([seconds, sorted(name for name in others if not name.startswith(("_", "distutils")))]))
"""
PAGE = "from bisupervised import BiSupervised, FunctionModel, Level, Supervisor, calibrate, evaluate"


def importing() -> None:
    plain = statistics.median(in_fresh_process(IMPORT, "import bisupervised")[0] for _ in range(9))
    show("import bisupervised (names are loaded when used)", f"{plain * 1000:.0f} ms", "< 150 ms", plain < 0.15)
    pages = [in_fresh_process(IMPORT, PAGE) for _ in range(9)]
    page = statistics.median(run[0] for run in pages)
    numpy_alone = statistics.median(in_fresh_process(IMPORT, "import numpy")[0] for _ in range(9))
    print(f"{'':4}with six of its names {page * 1000:.0f} ms, of which NumPy {numpy_alone * 1000:.0f} ms")
    others = sorted({name for run in pages for name in run[1]})
    show("third-party modules that these load besides NumPy", ", ".join(others) or "none", "none", not others)


CURVES = """
import json, resource, sys, time
import numpy as np
from bisupervised.evaluation.auc_rac import auc_rac
from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.request_accuracy import request_accuracy_curve
from bisupervised.evaluation.risk_coverage import risk_coverage
n = 10_000_000
rng = np.random.default_rng(0)
confidence = rng.random(n)
local, remote = np.empty(n, bool), np.empty(n, bool)
for start in range(0, n, 1_000_000):  # in blocks, so that making the inputs is not the peak
    rows = slice(start, start + 1_000_000)
    local[rows] = rng.random(1_000_000) < 0.5 + 0.5 * confidence[rows]
    remote[rows] = rng.random(1_000_000) < 0.9
if sys.argv[1] == "ties":
    confidence = np.round(confidence, 4)
start = time.perf_counter()
order = DeferralOrder.of(confidence)
area = auc_rac(confidence, local, remote, order=order)
curve = request_accuracy_curve(confidence, local, remote, order=order)
risk = risk_coverage(confidence, local, order=order)
seconds = time.perf_counter() - start
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, area.value]))
"""


def curves_of_ten_million() -> None:
    for kind in ("distinct", "ties"):
        runs = [in_fresh_process(CURVES, kind) for _ in range(3)]
        seconds, peak = (statistics.median(run[i] for run in runs) for i in (0, 1))
        what = f"AUC-RAC, request-accuracy and risk-coverage, 10,000,000 rows, {kind}"
        show(what, f"{seconds:.2f} s", "< 3 s", seconds < 3)
        show(f"{what}: peak memory", f"{peak:.2f} GB", "< 1 GB", peak < 1)


EVALUATION = """
import json, resource, time
import numpy as np
from bisupervised.evaluation import evaluate_at
from bisupervised.table import Table
n = 1_000_000
rng = np.random.default_rng(0)
names = np.array([f"class {k}" for k in range(10)], dtype=object)
truth, local, remote = rng.integers(0, 10, n), rng.random(n), rng.random(n)
table = Table.from_columns({
    "label": names[truth],
    "local_prediction": names[np.where(rng.random(n) < 0.4 + 0.5 * local, truth, 0)], "local_confidence": local,
    "remote_prediction": names[np.where(rng.random(n) < 0.9, truth, 1)], "remote_confidence": remote})
start = time.perf_counter()
evaluation = evaluate_at(table, 0.5, 0.3)
seconds = time.perf_counter() - start
assert evaluation.curves is not None and len(evaluation.supervised_rows) > 9
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6]))
"""


def evaluation_of_a_million() -> None:
    runs = [in_fresh_process(EVALUATION) for _ in range(3)]
    seconds, peak = (statistics.median(run[i] for run in runs) for i in (0, 1))
    show("every figure of an evaluation, 1,000,000 labelled rows", f"{seconds:.1f} s", "< 10 s", seconds < 10)
    show("every figure of an evaluation: peak memory", f"{peak:.2f} GB", "< 2 GB", peak < 2)


ONNX_FILE = """
import sys
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
weights = np.random.default_rng(0).normal(size=(784, 10)).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["p"], axis=1)], "tiny",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 784])],
    [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 10])],
    [numpy_helper.from_array(weights, "w")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
onnx.save(model, sys.argv[1])
"""

REMOTE = """
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        n = len(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"])
        body = json.dumps({"predictions": [1] * n, "confidences": [0.9] * n}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""

DEVICE = """
import json, resource, sys
import numpy as np
from bisupervised import BiSupervised, GivenConfidence, HttpJsonModel, Level, MaxSoftmax, OnnxModel, Route, Supervisor
local = OnnxModel(sys.argv[1], prepare=lambda xs: np.stack(xs).astype(np.float32))
remote = HttpJsonModel(f"http://127.0.0.1:{sys.argv[2]}/", max_batch=1)
system = BiSupervised(Level(local, Supervisor(MaxSoftmax(), 0.99)), Level(remote, Supervisor(GivenConfidence(), 0.5)))
rng = np.random.default_rng(0)
outcomes = [system.predict(rng.normal(size=784) * scale) for scale in np.linspace(0.0, 1.0, 300)]
assert {outcome.route for outcome in outcomes} == {Route.LOCAL, Route.REMOTE}, {outcome.route for outcome in outcomes}
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def small_device() -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "tiny.onnx")
        subprocess.run([sys.executable, "-c", ONNX_FILE, model], check=True)
        server = subprocess.Popen([sys.executable, "-c", REMOTE], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            peak = statistics.median(in_fresh_process(DEVICE, model, port)[0] for _ in range(3))
        finally:
            server.kill()
            server.wait()
    show(
        "ONNX Runtime local + HTTP remote, 300 inputs answered: peak memory", f"{peak:.0f} MB", "< 100 MB", peak < 100
    )


def main() -> None:
    print(
        f"{platform.platform()}, {os.cpu_count()} cores; Python {platform.python_version()}, NumPy {np.__version__}\n"
    )
    for benchmark in (
        deciding_recorded_rows,
        one_decision,
        grid_of_thresholds,
        importing,
        curves_of_ten_million,
        evaluation_of_a_million,
        small_device,
    ):
        benchmark()


if __name__ == "__main__":
    main()
