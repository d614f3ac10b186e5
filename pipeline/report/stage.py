"""The stage `report`: one page that needs no network, a Markdown twin, tables for LaTeX."""

from __future__ import annotations

from pathlib import Path

from condinst.atomic import atomic_folder
from condinst.errors import UserError
from pipeline.layout import REPORT
from pipeline.params import Params


def run(params: Params, root: Path = Path()) -> None:
    """Writes ``outputs/report``: index.html, report.md with its images, tables.tex.

    Parts whose stage has not run are named in the report, with the command that makes them.

    Args:
        params: The experiment.
        root: Of the project.

    Raises:
        UserError: The folder cannot be written; the former report stays.
    """
    from pipeline.report import collect, page, render

    found = collect.collect(params.ablations, root)
    made = page.build(found, params)
    target = root / REPORT
    try:
        with atomic_folder(target) as folder:
            (folder / "pictures").mkdir()
            (folder / "index.html").write_text(render.html(made), encoding="utf-8")
            text = render.markdown(made, lambda picture: picture.write(folder / "pictures"))
            (folder / "report.md").write_text(text, encoding="utf-8")
            (folder / "tables.tex").write_text(render.latex(made), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error}; is the disk full?") from error
