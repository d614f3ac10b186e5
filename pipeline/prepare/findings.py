"""What `prepare` found wrong: as a table, as a file, and as the error that stops it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.table import Table

from condinst.errors import UserError

if TYPE_CHECKING:
    from condinst.annotations.faults import Fault

_SHOWN = 8
_IDS = 4
_LONG = 24  # characters of an id, a UUID's beginning


class Kind(NamedTuple):
    """All faults of a split that are alike.

    Attributes:
        split: train or val.
        kind: a few words.
        action: what became of them.
        faults: one or more.
    """

    split: str
    kind: str
    action: str
    faults: list[Fault]

    @property
    def examples(self) -> str:
        """A few ids."""
        entries = list(dict.fromkeys(fault.entry for fault in self.faults))
        ids = ", ".join(_short(str(fault.id)) for fault in self.faults[:_IDS])
        more = ", ..." if len(self.faults) > _IDS else ""
        return f"{' or '.join(entries)} {ids}{more}"


@dataclass
class Findings:
    """What is wrong with a dataset.

    Attributes:
        faults: of each split.
        fatal: what no policy can help with.
        hints: what may be wrong with a split as a whole, in sentences.
        ignored: objects of each split that were left out, but stay as regions to ignore.
    """

    faults: dict[str, list[Fault]] = field(default_factory=dict)
    fatal: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)

    def count(self, split: str, action: str) -> int:
        """How many faults of a split had this action."""
        return sum(fault.action == action for fault in self.faults[split])

    def kinds(self) -> Iterator[Kind]:
        """Faults that are alike together, by split, in the order of their first."""
        for split, faults in self.faults.items():
            alike: dict[tuple[str, str], list[Fault]] = {}
            for fault in faults:
                alike.setdefault((fault.kind, fault.action), []).append(fault)
            for (kind, action), found in alike.items():
                yield Kind(split, kind, action, found)

    def write(self, path: Path) -> None:
        """List every fault."""
        listed = {
            split: [fault._asdict() for fault in faults] for split, faults in self.faults.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(listed, indent=1, default=str) + "\n")

    def table(self, path: Path) -> Table | None:
        """One row a kind; None where nothing was found.

        Args:
            path: where all are listed.
        """
        shown = Table(
            title=f"What was found in the data; all of it in {path}", title_justify="left"
        )
        for heading in ("", "what", "action"):
            shown.add_column(heading)
        shown.add_column("count", justify="right")
        shown.add_column("for example")
        for kind in self.kinds():
            example = f"{kind.examples}: {kind.faults[0].reason}"
            shown.add_row(kind.split, kind.kind, kind.action, f"{len(kind.faults):,}", example)
        return shown if shown.row_count else None

    def require_usable(self, path: Path) -> None:
        """Stop where the data cannot be used.

        Args:
            path: written with all faults before the error is raised.

        Raises:
            UserError: no policy helps, or the policy is strict and something is at fault.
        """
        refused = [kind for kind in self.kinds() if kind.action == "refused"]
        left_out = [kind for kind in self.kinds() if kind.action == "dropped"]
        count = sum(len(kind.faults) for kind in refused)
        if not count and not self.fatal:
            path.unlink(missing_ok=True)
            return
        lines = [*self.fatal]
        if count:
            lines.append(f"the data has {count:,} fault{'s' if count > 1 else ''}:")
        elif left_out:
            lines.append("left out so far:")
        lines += [_line(kind) for kind in refused or left_out]
        if refused or left_out:
            self.write(path)
            lines.append(f"All are listed in {path}.")
        if left_out:
            lines.append("prepare.policy: repair keeps those of them that have one right answer.")
        if count:
            lines.append(
                "Correct them, or set prepare.policy: repair mends what has one right answer and "
                "leaves out the rest, drop leaves out whatever is faulty."
            )
        raise UserError("\n".join(lines))


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}.."


def _line(kind: Kind) -> str:
    reason = f"{kind.examples}: {kind.faults[0].reason}"
    return f"  {kind.split}: {len(kind.faults):,} x {kind.kind}: {reason}"


def few(items: list[str]) -> str:
    """Some of many, one a line."""
    more = [f"and {len(items) - _SHOWN:,} more"] if len(items) > _SHOWN else []
    return "\n  ".join(items[:_SHOWN] + more)
