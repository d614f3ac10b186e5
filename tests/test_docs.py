"""What the documents retype is held to its source: verbs, contracts of imports, links."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import cli

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/*.md")


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every verb that does something, groups followed."""
    for name, below in sorted(getattr(command, "commands", {}).items()):
        yield from leaves(below, (*path, name))
    if not getattr(command, "commands", {}):
        yield " ".join(path)


def readme_verbs(text: str) -> set[str]:
    """Of the table of verbs: words before an argument or option, alternatives written out."""
    table = text.partition("## Verbs")[2].partition("\n## ")[0]
    found = set()
    for cell in re.findall(r"^\| (.+?) \| ", table, re.MULTILINE):
        for code in re.findall(r"`([^`]+)`", cell):
            words = re.match(r"[a-z]+(?: [a-z]+)*(?: / [a-z]+)*", code)
            assert words is not None, code
            first, *others = words[0].split(" / ")
            group = first.rpartition(" ")[0]
            found |= {first, *(f"{group} {other}" for other in others)}
    return found


def test_the_readme_lists_every_verb_and_no_other(repository: Path) -> None:
    verbs = set(leaves(typer.main.get_command(cli.app)))
    assert len(verbs) > 20
    assert readme_verbs((repository / "README.md").read_text()) == verbs


def test_alternatives_of_a_group_are_written_out() -> None:
    rows = "| `runs export / import` | a |\n| `convert A B`, `weights list` | b |\n"
    table = f"## Verbs\n\n{rows}## Next\n| `other` | c |\n"
    assert readme_verbs(table) == {"runs export", "runs import", "convert", "weights list"}


def test_contributing_names_every_contract_of_imports(repository: Path) -> None:
    settings = tomllib.loads((repository / "pyproject.toml").read_text())
    names = [contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]]
    text = (repository / "CONTRIBUTING.md").read_text()
    listed = re.findall(r"^- (.+)$", text.partition("`make imports` checks")[2], re.MULTILINE)
    assert listed[: len(names)] == names


@pytest.mark.parametrize("pattern", DOCUMENTS)
def test_links_lead_somewhere(repository: Path, pattern: str) -> None:
    for document in repository.glob(pattern):
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), (document.name, target)
