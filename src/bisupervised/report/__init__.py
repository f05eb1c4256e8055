"""Views over the numbers of `bisupervised.evaluation`: a sentence, JSON, the terminal, figures, one HTML page.

Nothing here computes a metric. Percent and milliseconds exist only here. matplotlib, jinja2 and rich are imported
when a view needs them: `pip install 'bisupervised[report]'`.
"""

from bisupervised.report.figures import evaluation_to_dict
from bisupervised.report.headline import headline
from bisupervised.report.html import Section, write_html_report
from bisupervised.report.plots import save_request_accuracy_figure
from bisupervised.report.text import print_report, progress_bar

__all__ = [
    "Section",
    "evaluation_to_dict",
    "headline",
    "print_report",
    "progress_bar",
    "save_request_accuracy_figure",
    "write_html_report",
]
