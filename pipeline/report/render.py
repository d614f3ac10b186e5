"""From the page's parts to HTML, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import words
from pipeline.report.page import Page
from pipeline.report.pictures import Picture
from pipeline.report.scores import Score

TEMPLATES = Path(__file__).parent / "templates"
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "_": r"\_", "%": r"\%", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "\N{MINUS SIGN}": "$-$", "\N{EN DASH}": "--",
}  # fmt: skip


def html(page: Page) -> str:
    """One file that needs no other."""
    environment = _environment(autoescape=True)
    template = environment.get_template("index.html.j2")
    return template.render(
        page=page,
        css=Markup((TEMPLATES / "style.css").read_text()),
        js=Markup((TEMPLATES / "page.js").read_text()),
        span=words.span,
    )


def markdown(page: Page, path: Callable[[Picture], str]) -> str:
    """The same without charts.

    Args:
        page: The parts.
        path: Writes an image and says where it lies.
    """
    environment = _environment(autoescape=False)
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    return environment.get_template("report.md.j2").render(page=page, path=path, score=_score)


def latex(page: Page) -> str:
    """The tables of the report for booktabs."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        block_start_string="\\BLOCK{",
        block_end_string="}",
        variable_start_string="\\VAR{",
        variable_end_string="}",
        comment_start_string="\\#{",
        comment_end_string="}",
    )
    environment.filters |= {"tex": escape_latex, "percent": words.percent}
    return environment.get_template("tables.tex.j2").render(page=page)


def escape_latex(text: object) -> str:
    """Text whose special characters LaTeX prints as they are."""
    return "".join(_LATEX.get(letter, letter) for letter in str(text))


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": words.percent, "count": words.count}
    return environment


def _score(score: Score) -> str:
    if score.value is None or score.low is None or score.high is None:
        return words.percent(score.value)
    return f"{words.percent(score.value)} ({words.span(score.low, score.high)})"
