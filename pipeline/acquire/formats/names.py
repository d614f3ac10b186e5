"""The file with the class names: one per line, or the `names` of a YAML file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from condinst.errors import UserError
from condinst.files import yamltext
from condinst.files.bounds import TEXT, YAML
from condinst.files.text import read_text

# What tools that write such lists put first, for pixels of no class.
NO_CLASS = ("__ignore__", "_background_", "background")


def read(path: Path, key: str) -> list[str]:
    """The names in the order of their numbers, without those for no class.

    Args:
        path: ``*.yaml`` with ``names`` as a list or ``{number: name}``, or a text file.
        key: of params.yaml, for messages.

    Raises:
        UserError: it is missing, has no names, or has a name twice.
    """
    if not path.is_file():
        raise UserError(f"{key}: the file {path} does not exist; it should name one class per line")
    in_yaml = path.suffix.lower() in (".yaml", ".yml")
    text = read_text(path, YAML if in_yaml else TEXT)
    if in_yaml:
        found = _of_yaml(text, path, key)
    else:
        found = [line.strip() for line in text.splitlines() if line.strip()]
        while found and found[0] in NO_CLASS:
            found.pop(0)
    if not found:
        raise UserError(f"{key}: {path} has no class names")
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise UserError(f"{key}: {path} has {', '.join(twice)} more than once")
    return found


def _of_yaml(text: str, path: Path, key: str) -> list[str]:
    try:
        content = yamltext.load(text, str(path))
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        raise UserError(
            f"{key}: {path} needs names: as a list, or as {{0: NAME, 1: NAME, ...}} without gaps"
        )
    return [str(name) for name in names]
