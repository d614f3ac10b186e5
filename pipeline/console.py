"""The command line's output and arguments: tables, system errors, KEY VALUE words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from condinst.errors import UserError
from condinst.files.names import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def terminal(*, stderr: bool = False, **options: Any) -> Console:
    """A console that prints every text literally.

    Names come from outside: `[/red]` in one is not markup, and control characters are shown as
    escapes. Colour needs rich's ``Text``.

    Args:
        stderr: print to standard error.
        options: of rich's ``Console``.
    """
    from rich.console import Console

    class Terminal(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(shown(text), **options)

    return Terminal(stderr=stderr, markup=False, emoji=False, **options)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Prints rows under a header."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in header:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    terminal().print(table)


def system_fault(error: OSError) -> str:
    """A disk or system error in words."""
    place = f": {error.filename}" if error.filename else ""
    return (
        f"{error.strerror or error}{place}\n`python cli.py doctor` checks the disk and the data; "
        "`python cli.py --debug VERB` shows where it happened."
    )


def key_values(words: Sequence[str] | None) -> list[str]:
    """Checks KEY VALUE words; unknown options end up among them.

    Raises:
        UserError: If a key looks like an option, or a value is missing.
    """
    words = list(words or [])
    stray = [word for word in words[::2] if word.startswith("-")]
    if stray:
        raise UserError(f"Unknown option {stray[0]}; --help lists the options.")
    if len(words) % 2:
        raise UserError(f"KEY VALUE must come in pairs, got {len(words)} words: {' '.join(words)}")
    return words


def assignments(texts: Sequence[str] | None) -> list[str]:
    """KEY=VALUE texts as words KEY VALUE.

    Raises:
        UserError: If a text has no `=`.
    """
    words = []
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UserError(f"--set takes KEY=VALUE, got {text}")
        words += [key, value]
    return words


def weights_rows() -> list[tuple[str, ...]]:
    """Published weights: name, box and mask AP, whether they are cached; within 80 columns."""
    from condinst.checkpoint.zoo import list_weights

    def figure(value: float | None) -> str:
        return "" if value is None else f"{value:.1f}"

    return [
        (
            row.entry.name,
            figure(row.entry.box_ap),
            figure(row.entry.mask_ap),
            "here" if row.cached else "by hand" if row.entry.manual else "on use",
        )
        for row in list_weights()
    ]
