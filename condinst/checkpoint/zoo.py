"""Weights by name: published checkpoints, ImageNet backbones, URLs and paths."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from condinst.checkpoint.fetch import fetch
from condinst.errors import UserError
from condinst.files.names import expanded

_ADELAIDET = "https://huggingface.co/tianzhi/AdelaiDet-CondInst/resolve/main/"
_BOXINST = "https://huggingface.co/tianzhi/AdelaiDet-BoxInst/resolve/main/"
_DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/"
_DROPBOX = "https://www.dropbox.com/s/"
_DRIVE = "https://drive.google.com/file/d/"


@dataclass(frozen=True)
class ZooEntry:
    """One set of published weights.

    Attributes:
        name: what to write in ``MODEL.WEIGHTS``.
        origin: who published it.
        recipe: the recipe it belongs to; empty for a backbone.
        url: its address.
        file: its name in the cache.
        box_ap: published box AP on val2017.
        mask_ap: published mask AP on val2017.
        manual: whether it can only be fetched with a browser.
        sha256: its hash, where known.
    """

    name: str
    origin: str
    recipe: str
    url: str
    file: str
    box_ap: float | None = None
    mask_ap: float | None = None
    manual: bool = False
    sha256: str | None = None


@dataclass(frozen=True)
class WeightsRow:
    """One line of ``weights list``.

    Attributes:
        entry: the published weights.
        path: where they are, or would be, in the cache.
        cached: whether they are there.
    """

    entry: ZooEntry
    path: Path
    cached: bool


def _adelaidet(name: str, box_ap: float | None, mask_ap: float, file: str = "") -> ZooEntry:
    file = file or f"CondInst_{name}.pth"
    return ZooEntry(
        name, "adelaidet", f"configs/CondInst/{name}.yaml", _ADELAIDET + file, file, box_ap, mask_ap
    )


def _boxinst(name: str, box_ap: float, mask_ap: float) -> ZooEntry:
    file = f"BoxInst_{name}.pth"
    recipe = f"configs/BoxInst/{name}.yaml"
    return ZooEntry(f"BoxInst/{name}", "adelaidet", recipe, _BOXINST + file, file, box_ap, mask_ap)


def _backbone(name: str, origin: str, url: str, *, manual: bool = False) -> ZooEntry:
    return ZooEntry(name, origin, "", url, name.replace("detectron2://", ""), manual=manual)


ZOO: tuple[ZooEntry, ...] = (
    _adelaidet("MS_R_50_1x", 39.7, 35.7),
    _adelaidet("MS_R_50_3x", 41.9, 37.5),
    _adelaidet("MS_R_101_3x", 43.3, 38.6),
    _adelaidet("MS_R_50_3x_sem", 42.6, 38.2),
    _adelaidet("MS_R_101_3x_sem", 44.6, 39.8),
    _adelaidet("MS_R_50_BiFPN_1x", 42.5, 37.3),
    _adelaidet("MS_R_50_BiFPN_3x", 44.3, 38.9),
    _adelaidet("MS_R_50_BiFPN_3x_sem", 44.7, 39.4),
    _adelaidet("MS_R_101_BiFPN_3x", 45.3, 39.6),
    _adelaidet("MS_R_101_BiFPN_3x_sem", 45.7, 40.2, "CondInst_R_101_BiFPN_3x_sem.pth"),
    _boxinst("MS_R_50_1x", 39.4, 30.7),
    _boxinst("MS_R_50_3x", 41.5, 31.8),
    _boxinst("MS_R_101_1x", 41.4, 32.2),
    _boxinst("MS_R_101_3x", 43.3, 33.0),
    _boxinst("MS_R_101_BiFPN_3x", 45.4, 34.1),
    _boxinst("MS_R_101_BiFPN_dcni3_3x", 46.4, 34.8),
    ZooEntry(
        "epiphqny/MS_R_101_3x",
        "epiphqny",
        "configs/CondInst/epiphqny/MS_R_101_3x.yaml",
        _DRIVE + "17-g91zwJzt99G8APza0IaleWYLC3kTMK",
        "epiphqny_MS_R_101_3x.pth",
        mask_ap=37.1,
        manual=True,
    ),
    *(
        _backbone(f"detectron2://{path}", "detectron2", _DETECTRON2 + path)
        for path in (
            "ImageNetPretrained/MSRA/R-50.pkl",
            "ImageNetPretrained/MSRA/R-101.pkl",
            "ImageNetPretrained/FAIR/X-101-32x8d.pkl",
            "ImageNetPretrained/torchvision/R-50.pkl",
            "ImageNetPretrained/torchvision/R-101.pkl",
        )
    ),
    *(
        _backbone(
            f"vovnet{depth}_ese_detectron2.pth",
            "vovnet-detectron2",
            f"{_DROPBOX}{key}/vovnet{depth}_ese_detectron2.pth?dl=1",
        )
        for depth, key in (
            (39, "q98pypf96rhtd8y"),
            (57, "8xl0cb3jj51f45a"),
            (99, "1mlv31coewx8trd"),
        )
    ),
)

# Other names for the same weights.
_ALIASES = {entry.file.removesuffix(".pth"): entry for entry in ZOO} | {
    entry.file: entry for entry in ZOO
}
_TIMM = "https://huggingface.co/timm/{}/resolve/main/model.safetensors"


def user_folder() -> Path:
    """What outlives all projects of a user: ``$CONDINST_CACHE``, else ``~/.cache/condinst``."""
    return Path(os.environ.get("CONDINST_CACHE") or "~/.cache/condinst").expanduser()


def cache_folder() -> Path:
    """Folder of fetched weights."""
    return user_folder() / "weights"


def list_weights() -> list[WeightsRow]:
    """Every named set of weights, and whether it is in the cache."""
    rows = []
    for entry in ZOO:
        path = cache_folder() / entry.file
        rows.append(WeightsRow(entry, path, path.is_file()))
    return rows


def resolve_weights(name: str | Path) -> Path:
    """Find weights by name and fetch them if needed.

    Args:
        name: path, http(s) URL (``#sha256=...`` gives its hash), ``detectron2://`` path, name
            of the zoo (see `list_weights`), or ``timm/<model>`` for timm's ImageNet weights.

    Returns:
        A file on this machine.

    Raises:
        UserError: nothing has that name, or it cannot be fetched; says what to put where.
    """
    text = str(name)
    path = expanded(text)
    if path.is_file():
        return path
    entry = _find_entry(text)
    if entry is not None:
        return _fetch_entry(entry)
    parts = urlsplit(text)
    if parts.scheme == "file":
        return resolve_weights(unquote(parts.path))
    if parts.scheme in ("http", "https"):
        return _fetch_url(text)
    if parts.scheme in ("detectron2", "catalog"):
        return _fetch_detectron2(text)
    if text.startswith("timm/"):
        model = text.removeprefix("timm/")
        return fetch(_TIMM.format(model), cache_folder() / "timm" / f"{model}.safetensors")
    raise UserError(_unknown(text))


def _find_entry(text: str) -> ZooEntry | None:
    named = next((e for e in ZOO if text in (e.name, e.url)), None)
    return named or _ALIASES.get(text)


def _fetch_entry(entry: ZooEntry) -> Path:
    path = cache_folder() / entry.file
    if entry.manual and not path.is_file():
        raise UserError(
            f"{entry.name} can only be fetched by hand: download {entry.url} in a browser and put "
            f"the file at {path}"
        )
    return fetch(entry.url, path, entry.sha256)


def _fetch_url(url: str) -> Path:
    parts = urlsplit(url)
    fields = parse_qs(parts.fragment)
    sha256 = fields.get("sha256", [None])[0]
    place = unquote(f"{parts.netloc}{parts.path}").replace(":", "_")
    pieces = [piece for piece in place.split("/") if piece not in ("", ".", "..")]
    return fetch(parts._replace(fragment="").geturl(), cache_folder().joinpath(*pieces), sha256)


def _fetch_detectron2(text: str) -> Path:
    """A path below detectron2's model zoo, or a name of its older catalog."""
    scheme, _, below = text.partition("://")
    if scheme == "detectron2":
        return fetch(_DETECTRON2 + below, cache_folder().joinpath(*Path(below).parts))
    from detectron2.checkpoint.catalog import ModelCatalog

    try:
        return _fetch_url(ModelCatalog.get(below))
    except (KeyError, RuntimeError) as error:
        raise UserError(f"detectron2's catalog has no {below!r}") from error


def _unknown(text: str) -> str:
    names = [e.name for e in ZOO]
    near = difflib.get_close_matches(text, names, n=3)
    hint = f"; similar names: {', '.join(near)}" if near else ""
    return (
        f"no weights at {text!r}: not a file, a URL or a name in the zoo{hint} "
        "(`weights list` shows all names)"
    )
