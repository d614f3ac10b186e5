"""Read checkpoints without executing them.

Torch files go through ``weights_only``; pickles of detectron2's zoo through an unpickler that
accepts only numpy arrays, plain containers, strings and numbers.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy._core import multiarray
from numpy.typing import NDArray
from torch import Tensor

from condinst.errors import UserError
from condinst.files import names
from condinst.files.bounds import INFLATED
from condinst.files.names import brief

# Keys under which a checkpoint's tensors may be, in the order of search.
STATE_KEYS = ("model", "state_dict", "model_state", "blobs")


class _Latin1Encode:
    """Stand-in for ``_codecs.encode``, which old pickles use to store bytes.

    An object without attributes, so that a pickle cannot alter it.
    """

    __slots__ = ()

    def __call__(self, text: object, encoding: object = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise UserError(f"the pickle asks for the codec {encoding!r}; only latin1 is read")
        return text.encode("latin1")


class _FromBuffer:
    """Stand-in for numpy's ``_frombuffer``, with which protocol 5 stores arrays."""

    __slots__ = ()

    def __call__(self, buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> Any:
        if dtype.hasobject:
            raise UserError("the pickle contains an array of objects, not of numbers")
        return np.frombuffer(buffer, dtype).reshape(shape, order="F" if order == "F" else "C")


class _Reconstruct:
    """Stand-in for numpy's ``_reconstruct``: an array that its state fills.

    Numpy's own would allocate any size, even with no data in the file.
    """

    __slots__ = ()

    def __call__(self, kind: object, shape: object, code: object) -> NDArray[Any]:
        if kind is not _ARRAY or shape != (0,):
            raise UserError("the pickle creates an array without data")
        return np.empty(0, np.int8)


_ARRAY = "numpy.ndarray"  # what stands for the class, which a pickle could call
_NUMPY_PARTS = ("numpy.core.multiarray", "numpy._core.multiarray")
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _Latin1Encode(),
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer(),
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer(),
    **{(module, "_reconstruct"): _Reconstruct() for module in _NUMPY_PARTS},
    **{(module, "scalar"): multiarray.scalar for module in _NUMPY_PARTS},
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise UserError(
                f"the pickle refers to {module}.{name}, which is neither an array nor a plain "
                "value; it was not read, since loading it could run code"
            ) from None

    def persistent_load(self, pid: object) -> NoReturn:
        raise UserError(f"the pickle refers to something outside itself ({pid!r})")


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint's content as it is, without running any code in it.

    Args:
        path: a torch file, a ``.pkl`` of numpy arrays, or a ``.safetensors`` file.

    Returns:
        The top-level mapping; arrays of a ``.pkl`` stay numpy arrays.

    Raises:
        UserError: the file does not exist or is damaged, it contains a class that is not plain
            data, or its top level is not a mapping.
    """
    path = Path(path)
    if names.problem(str(path)) is not None or not path.is_file():
        raise UserError(
            f"no checkpoint at {path}: give a file, a URL or a name from `weights list`"
        )
    if path.suffix == ".safetensors":
        content: object = _read_safetensors(path)
    elif path.suffix == ".pkl" and not zipfile.is_zipfile(path):
        content = _read_pickle(path)
    else:
        content = _read_torch(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} contains a {type(content).__name__}, not a mapping of tensors")
    return dict(content) if not isinstance(content, dict) else content


def _read_torch(path: Path) -> object:
    _check_inflation(path)
    numpy_scalars = [np.ndarray, np.dtype, multiarray._reconstruct, multiarray.scalar]
    dtypes = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdU"]
    allowed = [*numpy_scalars, *dtypes]
    named = [
        (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
        (multiarray.scalar, "numpy.core.multiarray.scalar"),
    ]
    try:
        with torch.serialization.safe_globals([*allowed, *named]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} was not read: {_refused_class(error)}") from error
    except Exception as error:  # a damaged file may fail in any way
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"{path} is not a readable checkpoint, or is cut short: {reason}"
        ) from error


def _check_inflation(path: Path) -> None:
    """Refuse a zip that would inflate a lot; ``torch.save`` does not compress."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
    except Exception as error:  # a damaged archive may fail in any way
        raise UserError(f"{path} is not a readable checkpoint, or is cut short: {error}") from error
    if total > 2 * path.stat().st_size:
        what = f"is compressed and would inflate from {path.stat().st_size:,} to {total:,} bytes"
        INFLATED.require(total, str(path), what)


def _refused_class(error: Exception) -> str:
    """The sentence in torch's long message that says what was refused."""
    text = str(error)
    for mark in ("Unsupported global: GLOBAL ", "Unsupported class ", "GLOBAL "):
        if mark in text:
            name = text.split(mark, 1)[1].split()[0].rstrip(".,:")
            return f"it contains {name}, which is not plain data, and loading it could run code"
    return text.splitlines()[0] if text else type(error).__name__


def _read_pickle(path: Path) -> object:
    content = path.read_bytes()
    try:
        _check_pickle(content)
        return _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle may fail in any way
        raise UserError(f"{path} is not a readable pickle, or is cut short: {error}") from error


def _check_pickle(content: bytes) -> None:
    """Check a pickle's instructions before they are executed.

    Raises:
        UserError: one would allocate memory by a mere number: a memo index beyond its values.
        Exception: it is damaged.
    """
    for count, (code, argument, _) in enumerate(pickletools.genops(content)):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
            raise UserError(f"the pickle stores value {count} at memo index {argument}")


def _read_safetensors(path: Path) -> object:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise UserError(f"reading {path} needs the package safetensors: install it") from None
    try:
        return load_file(path)
    except Exception as error:  # the Rust side raises its own class
        raise UserError(f"{path} is not a readable safetensors file: {error}") from error


def find_state(content: Mapping[str, Any]) -> tuple[dict[str, Tensor], str | None]:
    """Find the tensors in a checkpoint's content.

    Args:
        content: what `load_checkpoint` returned, or a plain state dict.

    Returns:
        The tensors by name, and the key they were under (None if they are the top level).

    Raises:
        UserError: there are none, or one of them is not an array.
    """
    key = next((k for k in STATE_KEYS if isinstance(content.get(k), Mapping)), None)
    state = content if key is None else content[key]
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            value = torch.from_numpy(np.array(value))  # a copy: pickled arrays may be read-only
        if isinstance(value, Tensor):
            tensors[name] = _plain(value, name)
        elif key is not None:
            raise UserError(f"{key}[{name!r}] in the checkpoint is a {type(value).__name__}")
    if not tensors:
        entries = brief(sorted(map(str, content)), 300)
        raise UserError(f"the checkpoint has no tensors, only the entries {entries}")
    return tensors, key


def _plain(tensor: Tensor, name: object) -> Tensor:
    """A tensor that is stored in full: not sparse, and without values repeated by its strides.

    Raises:
        UserError: it is not.
    """
    if not isinstance(name, str) or tensor.layout != torch.strided or tensor.is_quantized:
        kind = f"{tensor.layout} tensor of {tensor.dtype}"
        raise UserError(f"{brief(name)} in the checkpoint is a {kind}, expected a plain one")
    if tensor.device.type != "cpu":
        raise UserError(f"{name!r} in the checkpoint has no data (device {tensor.device})")
    least = min(tensor.shape, default=0)  # torch creates tensors of sizes -1 and 0
    if least < 0 or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(
            f"{name!r} in the checkpoint claims to have {' x '.join(map(str, tensor.shape))} "
            "values, but they are not there"
        )
    return tensor
