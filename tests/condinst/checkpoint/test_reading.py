from __future__ import annotations

import collections
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from condinst.checkpoint.reading import find_state, load_checkpoint
from condinst.errors import UserError


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("suffix", ["pkl", "pth"])
def test_code_is_refused_by_name_and_never_run(tmp_path: Path, suffix: str) -> None:
    path, mark = tmp_path / f"weights.{suffix}", tmp_path / "mark"
    bad = {"model": {"a": Malicious(mark)}}
    if suffix == "pkl":
        path.write_bytes(pickle.dumps(bad))
    else:
        torch.save(bad, path)
    with pytest.raises(UserError, match=r"(posix|os|nt)\.system"):
        load_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "numpy.load", "operator.methodcaller"])
def test_pickle_refuses_any_function(tmp_path: Path, name: str) -> None:
    module, function = name.rsplit(".", 1)
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"c" + f"{module}\n{function}\n".encode() + b".")
    with pytest.raises(UserError, match=name):
        load_checkpoint(path)


def test_pickle_refuses_other_codecs(tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"c_codecs\nencode\n(Vabc\nVrot13\ntR.")
    with pytest.raises(UserError, match="rot13"):
        load_checkpoint(path)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickle_of_arrays(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "R-50.pkl"
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = collections.OrderedDict(
        conv1_w=array, scalar=np.float64(2.5), count=3, text="x", raw=b"\x00\xff", items=[1, (2,)]
    )
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = load_checkpoint(path)
    np.testing.assert_array_equal(found["conv1_w"], array)
    assert found["scalar"] == 2.5
    assert found["raw"] == b"\x00\xff"
    state, key = find_state({"model": {"conv1_w": found["conv1_w"]}})
    assert key == "model"
    assert state["conv1_w"].tolist() == array.tolist()


def test_torch_file_with_numpy_scalars(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model": {"a": torch.ones(2)}, "best": np.float64(0.5), "n": np.int64(3)}, path)
    found = load_checkpoint(path)
    assert found["best"] == 0.5
    assert found["n"] == 3


def test_legacy_torch_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(load_checkpoint(path)["a"], torch.ones(2))


def test_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "model.safetensors"
    safetensors.save_file({"a": torch.arange(3)}, path)
    assert load_checkpoint(path)["a"].tolist() == [0, 1, 2]
    path.write_bytes(b"nothing of the sort")
    with pytest.raises(UserError, match="not a readable safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize("suffix", ["pkl", "pth"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 cut"])
def test_damaged_files(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)):
        load_checkpoint(path)


def test_truncated_torch_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model": {"a": torch.ones(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="cut short"):
        load_checkpoint(path)


def test_no_file_and_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "missing.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="a list, not a mapping"):
        load_checkpoint(tmp_path / "list.pth")


def test_state_lies_under_several_keys() -> None:
    state = {"a": torch.ones(1)}
    for key in ("model", "state_dict", "model_state", "blobs"):
        assert find_state({key: state, "iteration": 3})[1] == key
    assert find_state(state) == (state, None)
    with pytest.raises(UserError, match="no tensors"):
        find_state({"iteration": 3})
    with pytest.raises(UserError, match=r"model\['b'\].*str"):
        find_state({"model": {"b": "text"}})


class _Record:
    """Stands for a storage of 4 floats in ``data/0``, whatever it is said to hold."""

    def __init__(self, count: int) -> None:
        self.pid = ("storage", torch.FloatStorage, "0", "cpu", count)


class _Rebuilt:
    def __init__(self, *given: Any) -> None:
        self.given = given

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return torch._utils._rebuild_tensor_v2, (*self.given, False, collections.OrderedDict())


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> Any:
        return getattr(obj, "pid", None)


def _claiming(path: Path, count: int, offset: int, size: Any, stride: Any, order: str) -> Path:
    """A torch file of one tensor that says of itself what is given."""
    tensor = _Rebuilt(_Record(count), offset, size, stride)
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("a/data.pkl", "w") as file:
            _Pickler(file, 2).dump({"model": {"a": tensor}})
        archive.writestr("a/version", "3\n")
        archive.writestr("a/byteorder", order)
        archive.writestr("a/data/0", np.arange(4, dtype=np.float32).tobytes())
    return path


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(
    ("count", "offset", "size", "stride"),
    [
        (5, 0, (4,), (1,)),
        (10**8, 0, (10**8,), (1,)),
        (2**62, 0, (4,), (1,)),
        (-1, 0, (4,), (1,)),
        (3, 0, (3,), (1,)),
        (4, 1, (4,), (1,)),
        (4, -1, (2,), (1,)),
        (4, 2**62, (1,), (1,)),
        (4, 0, (5,), (1,)),
        (4, 0, (2, 2), (3, 1)),
        (4, 0, (2,), (2**61,)),
        (4, 0, (4,), (-1,)),
        (4, 0, (2**40,), (0,)),
        (4, 0, (2**32, 2**32), (0, 0)),
        (4, 0, (-1, 0), (1, 1)),
        (4, 0, (-2, -2), (1, 1)),
    ],
)
def test_tensors_that_claim_more_than_is_there(
    tmp_path: Path, count: int, offset: int, size: Any, stride: Any, order: str
) -> None:
    path = _claiming(tmp_path / "model.pth", count, offset, size, stride, order)
    with pytest.raises(UserError, match=r"not a readable checkpoint|they are not there") as raised:
        find_state(load_checkpoint(path))
    assert "\n" not in str(raised.value)


def test_tensors_that_claim_what_is_there(tmp_path: Path) -> None:
    path = _claiming(tmp_path / "model.pth", 4, 1, (2,), (2,), "little")
    assert find_state(load_checkpoint(path))[0]["a"].tolist() == [1, 3]
