from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from condinst.checkpoint import fetch as fetch_module
from condinst.checkpoint import zoo
from condinst.checkpoint.fetch import fetch, hash_in_name
from condinst.checkpoint.zoo import list_weights, resolve_weights
from condinst.errors import UserError

CONTENT = bytes(range(256)) * 40


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT everywhere but at /missing; counts what it is asked for."""

    def do_GET(self) -> None:
        state = self.server.state  # type: ignore[attr-defined] # set by the fixture
        state.requests.append((self.path, self.headers.get("Range")))
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        start = 0
        if self.headers.get("Range") and state.ranges:
            current = self.headers.get("If-Range") in (None, state.etag)
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if current else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("ETag", state.etag)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = state.cut or len(CONTENT)
        state.cut = None
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """A server on the loopback; ``cut`` ends the next answer early."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = SimpleNamespace(requests=[], ranges=True, cut=None, etag='"1"')
    state.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    httpd.state = state  # type: ignore[attr-defined] # read by the handler
    thread = Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, no waiting, and no proxy between us and the loopback."""
    monkeypatch.setenv("CONDINST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch_module.time, "sleep", lambda _: None)
    return tmp_path / "cache" / "weights"


def test_url_is_fetched_once(server: SimpleNamespace, cache: Path) -> None:
    for _ in range(2):
        path = resolve_weights(f"{server.url}/a/model.pth?download=true")
        assert path.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert path.is_relative_to(cache)
    assert not list(cache.rglob("*.part*"))


def test_cut_transfer_goes_on_where_it_stopped(server: SimpleNamespace, tmp_path: Path) -> None:
    server.cut = 3000
    assert fetch(f"{server.url}/m.pth", tmp_path / "m.pth").read_bytes() == CONTENT
    assert [r for _, r in server.requests] == [None, "bytes=3000-"]


def test_half_file_of_an_earlier_run(server: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "m.pth.part").write_bytes(CONTENT[:100])
    (tmp_path / "m.pth.part.etag").write_text('"1"')
    assert fetch(f"{server.url}/m.pth", tmp_path / "m.pth").read_bytes() == CONTENT
    assert server.requests == [("/m.pth", "bytes=100-")]


def test_half_of_another_version_is_thrown_away(server: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "m.pth.part").write_bytes(b"old" * 40)
    (tmp_path / "m.pth.part.etag").write_text('"0"')
    assert fetch(f"{server.url}/m.pth", tmp_path / "m.pth").read_bytes() == CONTENT


def test_server_without_ranges(server: SimpleNamespace, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "m.pth.part").write_bytes(CONTENT[:100])
    assert fetch(f"{server.url}/m.pth", tmp_path / "m.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [b"", b"too much"])
def test_part_that_is_complete_or_too_long(
    server: SimpleNamespace, tmp_path: Path, extra: bytes
) -> None:
    (tmp_path / "m.pth.part").write_bytes(CONTENT + extra)
    assert fetch(f"{server.url}/m.pth", tmp_path / "m.pth").read_bytes() == CONTENT


def test_hash(server: SimpleNamespace, tmp_path: Path) -> None:
    right = hashlib.sha256(CONTENT).hexdigest()
    assert resolve_weights(f"{server.url}/m.pth#sha256={right}").read_bytes() == CONTENT
    assert hash_in_name("https://x/resnet50-0676ba61.pth?x=1") == "0676ba61"
    assert hash_in_name("https://x/resnet50.pth") is None
    assert fetch(f"{server.url}/m-{right[:8]}.pth", tmp_path / "n.pth").read_bytes() == CONTENT
    with pytest.raises(UserError, match="expected 00000000"):
        resolve_weights(f"{server.url}/m-00000000.pth")
    assert not [p for p in tmp_path.rglob("m-00000000*") if p.suffix != ".lock"]


def test_missing_file_says_where_to_put_it(server: SimpleNamespace, cache: Path) -> None:
    with pytest.raises(UserError, match=r"404.*put it at .*missing\.pth"):
        resolve_weights(f"{server.url}/missing.pth")
    assert len(server.requests) == 1


def test_no_network_says_what_to_put_where(cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError) as caught:
        resolve_weights(f"http://127.0.0.1:{port}/m.pth")
    text = str(caught.value)
    assert f"http://127.0.0.1:{port}/m.pth" in text
    assert str(cache) in text


def test_zoo_name_and_what_lies_in_the_cache(
    server: SimpleNamespace, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(r for r in list_weights() if r.entry.name == "MS_R_50_1x")
    assert not row.cached
    row.path.parent.mkdir(parents=True)
    row.path.write_bytes(b"by hand")
    for name in ("MS_R_50_1x", "CondInst_MS_R_50_1x", "CondInst_MS_R_50_1x.pth", row.entry.url):
        assert resolve_weights(name) == row.path
    assert next(r for r in list_weights() if r.entry.name == "MS_R_50_1x").cached
    monkeypatch.setattr(zoo, "_DETECTRON2", f"{server.url}/detectron2/")
    path = resolve_weights("detectron2://Other/R-50.pkl")
    assert path == cache / "Other" / "R-50.pkl"
    assert server.requests == [("/detectron2/Other/R-50.pkl", None)]


def test_zoo_holds_all_published_weights() -> None:
    rows = list_weights()
    names = {r.entry.name for r in rows}
    assert sum(r.entry.origin == "adelaidet" for r in rows) == 10
    assert "detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl" in names
    assert len({r.path for r in rows}) == len(rows)


def test_weights_fetched_by_hand() -> None:
    with pytest.raises(UserError, match=r"drive\.google\.com.*put the file at .*epiphqny"):
        resolve_weights("epiphqny/MS_R_101_3x")


def test_paths_and_unknown_names(tmp_path: Path) -> None:
    path = tmp_path / "my weights.pth"
    path.write_bytes(b"x")
    assert resolve_weights(path) == path
    assert resolve_weights(path.as_uri()) == path
    with pytest.raises(UserError, match="near it: MS_R_50_3x"):
        resolve_weights("MS_R_50_3xx")
    with pytest.raises(UserError, match="catalog has no"):
        resolve_weights("catalog://ImageNetPretrained/none")
