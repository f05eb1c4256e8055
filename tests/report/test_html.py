"""The page: one file that loads nothing, escapes everything, and shows what is known."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bisupervised.assessment import Assessment, evaluate
from bisupervised.errors import MissingExtra
from bisupervised.report import plots
from bisupervised.report.html import Section, html_report, write_html_report
from report.assessments import columns, full, logged, priced, unlabelled

LOADING = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"}
EMPTY = {"meta", "input", "br", "link", "img"}


class Page(HTMLParser):
    """What a browser would see: attributes that load, the ids, the text, and whether tags are balanced."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in EMPTY:
            self.open.append(tag)
        for name, value in attrs:
            if name in LOADING and not (value or "").startswith("#"):
                self.loads.append(f"{tag} {name}={value}")
            if name == "id":
                self.ids.append(value or "")
            if name in ("aria-labelledby", "for"):
                self.references.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def page_of(assessment: Assessment, **options: Any) -> str:
    return html_report(assessment, **{"title": "Reviews", "source": "reviews.csv", **options})


def points_of(page: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="points">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    points: list[dict[str, Any]] = json.loads(found[1])
    return points


@pytest.mark.parametrize("make", [full, unlabelled, logged])
def test_the_page_is_one_file_that_loads_nothing(make: Any) -> None:
    page = page_of(make())
    assert not re.search(r"https?:|@import|url\((?!#)", page)
    parsed = Page(page)
    assert parsed.loads == []
    assert parsed.open == []
    assert "link" not in parsed.tags
    assert "img" not in parsed.tags
    assert len(page.encode()) < 600_000


@pytest.mark.parametrize("make", [full, unlabelled, logged])
def test_ids_are_unique_and_references_exist(make: Any) -> None:
    parsed = Page(page_of(make()))
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(parsed.references) <= set(parsed.ids)


def test_what_users_write_is_text() -> None:
    evil = "<script>alert('x')</script>{{ 7 * 7 }}"
    rows = {**columns(), "id": [f"{evil}{row}" for row in range(2000)]}
    rows["label"] = rows["local_prediction"] = rows["remote_prediction"] = [evil] * 2000
    assessment = evaluate(rows, (0.5, 0.4))
    assessment.evaluation.notes.append(evil)  # type: ignore[attr-defined]
    section = Section(evil, text=evil, columns=[evil], rows=[[evil]], caption=evil)
    page = page_of(assessment, title=evil, source=evil, extra_sections=[section])
    assert "<script>alert" not in page
    assert Page(page).tags.count("script") <= 2
    assert "{{ 7 * 7 }}" in Page(page).text
    assert "49" not in Page(page).text.split(evil)[0]


def test_everything_known_is_shown() -> None:
    assessment = full()
    text = Page(page_of(assessment)).text.replace("\N{NO-BREAK SPACE}", " ")
    for words in (
        "Trust the local model at confidence >= 0.5438",
        "6.4 % of inputs get no trusted answer",
        "reviews.csv",
        "rows held out",
        "local-only, supervised",
        "exchangeability",
        str(assessment.thresholds.evidence["data_sha256"]),
        "false alarm rate",
        "50 % requests",
        "break-even, latency",
        "[.890, .925]",
    ):
        assert words in text
    assert "not known" not in text


def test_the_slider_has_at_most_about_400_points_and_starts_at_the_thresholds() -> None:
    assessment = evaluate(priced(), (0.6, 0.4))
    page = page_of(assessment)
    points = points_of(page)
    assert len(points) < 410
    assert points[0].keys() == {
        "x", "y", "request_rate", "rule", "system_accuracy", "versus_remote_only", "cost", "latency",
    }  # fmt: skip
    assert [point["x"] for point in points] == sorted(point["x"] for point in points)
    assert points[0]["rule"].startswith("confidence >= ")
    assert (points[-1]["x"], points[-1]["rule"], points[-1]["cost"]) == (1.0, "no confidence", "0.002")
    request_rate = assessment.evaluation.systems["bisupervised"].request_rate.value
    assert f'value="{1000 * request_rate:g}"' in page
    assert '<dd data-show="rule">confidence &gt;= 0.6</dd>' in page


def test_the_slider_hides_what_is_not_known() -> None:
    page = page_of(evaluate(columns(), (0.6, 0.4)))
    assert "cost" not in points_of(page)[0]
    assert 'data-show="cost"' not in page
    assert 'data-show="latency"' not in page
    assert "Mean latency" not in page


def test_without_javascript_the_points_are_a_table() -> None:
    page = page_of(full())
    rows = re.findall(r"<tr><td>(\d+) %</td><td>(?:any|no|confidence)", page)
    assert rows[0] == "0"
    assert rows[-1] == "100"
    assert len(rows) == 11
    assert "<noscript>" in page


@pytest.mark.parametrize("make", [unlabelled, logged])
def test_what_is_not_known_is_said(make: Any) -> None:
    page = page_of(make())
    text = Page(page).text
    assert "not known" in text
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)
    assert 'id="points"' not in page
    assert "the curve needs both models' answers" in text


def test_a_logs_remote_risk_is_said_to_be_of_the_deferred_inputs() -> None:
    assert "remote supervisor, of the deferred inputs" in page_of(logged())
    assert "of the deferred inputs" not in page_of(full())


def test_warnings_come_before_the_tables() -> None:
    rows = {**columns(), "local_confidence": 1.0 - columns()["local_confidence"]}
    page = page_of(evaluate(rows, (0.5, 0.4)))
    assert page.index("The local supervisor is inverted") < page.index("The systems side by side")
    assert 'class="warnings"' in page


def test_sections_of_ones_own() -> None:
    figure = plots.svg_of(plots.request_accuracy_figure({"mine": ([0.0, 1.0], [0.5, 0.6])}), "mine")
    section = Section(
        "Against the paper", "One.\n\nTwo.", ("what", "ours"), [("AUC-RAC", ".806")], figure, "A curve."
    )
    page = page_of(full(), extra_sections=[section])
    assert '<h2 id="extra-1">Against the paper</h2>' in page
    assert "<p>One.</p>" in page
    assert "<p>Two.</p>" in page
    assert "A curve." in page
    parsed = Page(page)
    assert len(parsed.ids) == len(set(parsed.ids))


def test_the_file_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    path = write_html_report(full(), tmp_path / "new" / "report.html", title="Café", source="s")
    assert path == tmp_path / "new" / "report.html"
    assert "<title>Café</title>" in path.read_text(encoding="utf-8")


def test_the_same_assessment_gives_the_same_page() -> None:
    assessment = full()
    assert page_of(assessment) == page_of(assessment)


def test_without_jinja_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"bisupervised\[report\]"):
        page_of(full())


@pytest.mark.slow
def test_a_browser_moves_the_slider(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here")
    path = write_html_report(full(), tmp_path / "report.html", title="t", source="s")
    move = 'var s = document.getElementById("rate"); s.value = 1000; s.dispatchEvent(new Event("input"));'
    page = path.read_text(encoding="utf-8").replace("</body>", f"<script>{move}</script></body>")
    path.write_text(page, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    shown = subprocess.run([browser, *flags], capture_output=True, text=True, timeout=120, check=True).stdout
    assert '<dd data-show="rule">no confidence</dd>' in shown
    assert '<dd data-show="request_rate">100 %</dd>' in shown
    assert 'class="js"' in shown
