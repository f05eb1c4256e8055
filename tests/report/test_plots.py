"""Figures are written, say what they show, and do not touch anyone's matplotlib."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf

from bisupervised.errors import MissingExtra
from bisupervised.report import plots
from bisupervised.report.curve import save_curve_of
from bisupervised.report.numerals import amount
from bisupervised.report.plots import Bars, bars_figure, save_figure, save_request_accuracy_figure, svg_of
from bisupervised.report.supervisor_plots import confidence_figure, risk_coverage_figure
from report.assessments import full, unlabelled

RATES = np.linspace(0.0, 1.0, 50_001)
CURVE = (RATES, 0.8 + 0.1 * np.sqrt(RATES))
POINTS = [(0.3, 0.855, "remote-even"), (0.302, 0.8552, "best"), (1.0, 0.9, "everything\n(100 % / .900)")]
PNG = b"\x89PNG\r\n\x1a\n"


def labels_of(svg: str) -> list[str]:
    """The texts of a figure."""
    return re.findall(r">([^<>\n]+)<", svg)


def test_a_png_and_an_svg_are_written(tmp_path: Path) -> None:
    options = {"title": "IMDB $1 < $2", "y_label": "system accuracy", "points": POINTS, "auc_rac": 0.8056}
    png = save_request_accuracy_figure(tmp_path / "new" / "a.png", {"BiSupervised": CURVE}, **options)  # type: ignore[arg-type]
    assert png.read_bytes().startswith(PNG)
    assert png.stat().st_size > 30_000
    svg = save_request_accuracy_figure(tmp_path / "a.svg", {"BiSupervised": CURVE}, interval=(0.79, 0.82), **options)  # type: ignore[arg-type]
    shown = labels_of(svg.read_text())
    for words in ("IMDB $1 &lt; $2", "BiSupervised", "random deferral", "remote-only", "40 %", "remote-even", "best"):
        assert words in shown
    assert any("AUC-RAC" in words and ".806" in words for words in shown)
    assert "[.790, .820]" in shown
    assert "Inputs sent to the remote model" in shown


def test_many_points_are_thinned(tmp_path: Path) -> None:
    svg = save_request_accuracy_figure(tmp_path / "a.svg", {"a": CURVE}, title="", y_label="system accuracy")
    assert svg.stat().st_size < 60_000


def test_a_random_deferral_of_ones_own_is_not_drawn_twice(tmp_path: Path) -> None:
    line = (np.array([0.0, 1.0]), np.array([0.8, 0.9]))
    svg = save_request_accuracy_figure(
        tmp_path / "a.svg", {"BiSupervised": CURVE, "random deferral": line}, title="", y_label="y"
    )
    assert labels_of(svg.read_text()).count("random deferral") == 1


def test_labels_overlap_neither_each_other_nor_the_frame() -> None:
    points = [(x, float(np.interp(x, *CURVE)), f"a point of {x:.2f}") for x in (0.30, 0.33, 0.36, 0.39, 0.98, 0.02)]
    figure = plots.request_accuracy_figure({"BiSupervised": CURVE}, points=points, auc_rac=0.8)
    axes = figure.axes[0]
    renderer = figure.canvas.get_renderer()
    boxes = [one.get_window_extent(renderer) for one in axes.texts]
    assert len(boxes) == len(points) + 1
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    frame = axes.get_window_extent(renderer).padded(1)
    assert all(
        frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes
    )


def test_points_that_coincide_share_a_label() -> None:
    figure = plots.request_accuracy_figure({"a": CURVE}, points=POINTS[:2])
    assert [one.get_text() for one in figure.axes[0].texts] == ["remote-even\nbest"]


def test_drawing_leaves_matplotlibs_settings_and_pyplot_alone() -> None:
    names = [name for name in mpl.rcParams if name != "backend"]  # asking for the backend would choose one
    before = [mpl.rcParams[name] for name in names]
    plots.svg_of(plots.request_accuracy_figure({"a": CURVE}, points=POINTS), "a")
    assert [mpl.rcParams[name] for name in names] == before
    assert Gcf.get_num_fig_managers() == 0


def test_an_svg_for_a_page_loads_nothing_and_leaves_colours_to_the_page() -> None:
    svg = svg_of(plots.request_accuracy_figure({"a<b": CURVE}, title="<script>"), "curve").markup
    assert "http" not in svg
    assert "<script>" not in svg
    assert "a&lt;b" in svg
    assert "var(--fig-system, #0072b2)" in svg
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    assert all(one.startswith("curve-") for one in ids)
    assert set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", svg)) <= set(ids)


def test_where_the_axes_of_an_svg_are() -> None:
    svg = svg_of(plots.request_accuracy_figure({"a": CURVE}, points=POINTS), "curve")
    width, height = map(float, re.findall(r'viewBox="0 0 (\S+) (\S+)"', svg.markup)[0])
    assert 0 < svg.axes.left < svg.axes.right < width
    assert 0 < svg.axes.top < svg.axes.bottom < height  # y downwards
    assert svg.y_limits[0] < 0.8 < 0.9 < svg.y_limits[1]


@pytest.mark.parametrize(
    "confidences", [np.full(5, np.nan), np.full(5, 0.5), np.array([np.inf, -np.inf, 0.1, 0.2, np.nan])]
)
@pytest.mark.parametrize("limit", [0.15, -np.inf, np.inf])
@pytest.mark.parametrize("correct", [np.full(5, np.nan), np.array([1.0, 0.0, 1.0, 0.0, np.nan])])
def test_odd_confidences_are_drawn(
    tmp_path: Path, confidences: np.ndarray, limit: float, correct: np.ndarray
) -> None:
    path = save_figure(tmp_path / "a.png", confidence_figure({"local": (confidences, correct, limit)}))
    assert path.read_bytes().startswith(PNG)


def test_the_other_figures_say_what_they_show(tmp_path: Path) -> None:
    risk = risk_coverage_figure({"local supervisor": CURVE}, title="Risk", point=(0.5, 0.1, "BiSupervised"))
    assert "BiSupervised" in labels_of(svg_of(risk, "r").markup)
    bars = bars_figure([Bars("Cost", {"local-only": 0.0, "remote-only": float("nan")}, amount, "cheaper below 50 %")])
    shown = labels_of(svg_of(bars, "b").markup)
    assert {"Cost", "local-only", "not known", "cheaper below 50 %"} <= set(shown)


def test_the_curve_of_an_evaluation(tmp_path: Path) -> None:
    path = save_curve_of(full().evaluation, tmp_path / "curve.png", title="mine")
    assert path is not None
    assert path.read_bytes().startswith(PNG)
    assert save_curve_of(unlabelled().evaluation, tmp_path / "none.png") is None
    assert not (tmp_path / "none.png").exists()


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"bisupervised\[report\]"):
        save_request_accuracy_figure(tmp_path / "a.png", {"a": CURVE}, title="", y_label="")
