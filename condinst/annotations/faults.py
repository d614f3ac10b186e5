"""What is wrong with a dataset and what became of it: one record a fault, one policy for all."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, NamedTuple, NoReturn

POLICIES = ("strict", "repair", "drop")

KEPT, REPAIRED, DROPPED, REFUSED = "kept", "repaired", "dropped", "refused"


class Fault(NamedTuple):
    """Something in a COCO JSON, or in an image, that is not as it should be.

    Attributes:
        entry: ``category``, ``image`` or ``annotation``.
        id: the entry's own, or its place in the list where it has none.
        image: file name of the image that it is about, where there is one.
        kind: a few words, the same for all faults of a kind.
        reason: what is wrong, with the value.
        action: ``kept``, ``repaired``, ``dropped``, or ``refused`` under the policy strict.
    """

    entry: str
    id: Any
    image: str | None
    kind: str
    reason: str
    action: str


class Place(NamedTuple):
    """The entry that a fault is about; see :class:`Fault`."""

    entry: str
    id: Any
    image: str | None = None


class Unusable(Exception):
    """The entry at hand is left out; the ledger says why."""


class Ledger:
    """Decides by the policy what becomes of a fault, and writes each decision down.

    Under ``strict`` the checks go on as under ``repair``, so that all faults are found; nothing of
    what they give may be used then.

    Attributes:
        policy: one of ``POLICIES``.
        faults: in the order in which they were found.
        fatal: what no policy can help with.
        hints: what may be wrong with the file as a whole, in sentences.
    """

    def __init__(self, policy: str) -> None:
        assert policy in POLICIES, policy
        self.policy = policy
        self.faults: list[Fault] = []
        self.fatal: list[str] = []
        self.hints: list[str] = []

    def note(self, place: Place, kind: str, reason: str) -> None:
        """No fault, but worth knowing: the entry is used."""
        self._add(place, kind, reason, KEPT)

    def harmless(self, place: Place, kind: str, reason: str) -> None:
        """A repair that changes no object: made under ``drop`` too."""
        self._add(place, kind, reason, REFUSED if self.policy == "strict" else REPAIRED)

    def repairable(self, place: Place, kind: str, reason: str) -> None:
        """There is one obvious right answer.

        Raises:
            Unusable: the policy is ``drop``.
        """
        if self.policy == "drop":
            self.lost(place, kind, reason)
        self.harmless(place, kind, reason)

    def lost(self, place: Place, kind: str, reason: str) -> NoReturn:
        """There is no right answer.

        Raises:
            Unusable: always.
        """
        self._add(place, kind, reason, REFUSED if self.policy == "strict" else DROPPED)
        raise Unusable

    def sum_up(
        self, mark: int, kinds: Container[str], total: int, entry: str = "annotation"
    ) -> None:
        """Faults of a kind that many entries have together become one.

        Under ``drop`` such a kind is fatal if most entries have it: there would be little left.

        Args:
            mark: how many faults there were before.
            kinds: that are meant.
            total: number of entries.
            entry: what they are.
        """
        alike: dict[str, list[Fault]] = {}
        for fault in self.faults[mark:]:
            if fault.kind in kinds and (self.policy == "drop" or fault.action != DROPPED):
                alike.setdefault(fault.kind, []).append(fault)
        for kind, found in alike.items():
            first, count = found[0], len(found)
            share = f"{count:,} of {total:,} {entry}s ({count / max(total, 1):.0%})"
            told = f"{share}, such as {first.id}: {first.reason}"
            if self.policy == "drop" and 2 * count > total:
                self.fatal.append(
                    f"{kind}: {told}; correct the JSON, or set prepare.policy: repair, which "
                    "rewrites them"
                )
            elif self.policy != "drop" and count > 1:
                action = REFUSED if self.policy == "strict" else REPAIRED
                one = Fault(entry, f"{count:,} of {total:,}", None, kind, told, action)
                rest = [
                    fault
                    for fault in self.faults[mark:]
                    if fault.kind != kind or fault.action == DROPPED
                ]
                self.faults[mark:] = [one, *rest]

    def _add(self, place: Place, kind: str, reason: str, action: str) -> None:
        self.faults.append(Fault(*place, kind, reason, action))

    def only_last_since(self, mark: int) -> None:
        """An entry is left out for one reason: forget what was repaired in it before."""
        if self.policy != "strict":
            self.faults[mark:] = self.faults[-1:]
