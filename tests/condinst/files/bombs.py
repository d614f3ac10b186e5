"""Small files that become large when they are read, and what reading one takes."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY

# Prints what became of it, and the bytes of memory beyond those of the imports.
_READ = """
import json, resource, sys
from pathlib import Path
from condinst.errors import UserError
{imports}
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
try:
    {call}
    said = ""
except UserError as error:
    said = str(error)
# of this program alone: what getrusage gives goes on from the process that started it
(line,) = [text for text in open("/proc/self/status") if text.startswith("VmHWM")]
peak = int(line.split()[1]) * 1024
print(json.dumps([said, max(peak - before, 0)]))
"""


def read(path: Path, imports: str, call: str) -> tuple[str, int]:
    """The message (empty: it was read) and the memory, within 10 s of processor time."""
    code = _READ.format(imports=imports, call=call)
    words = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    said, memory = json.loads(done.stdout.splitlines()[-1])
    return said, memory


def png(path: Path, side: int, depth: int = 8, colours: int = 3) -> None:
    """A square of zeros, whose compressed form is one part again and again."""
    size = (1 + side * colours * depth // 8) * side
    packer = zlib.compressobj(9, wbits=-15)
    part = packer.compress(bytes(size // 100)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(size % 100)) + packer.flush()
    total = struct.pack(">HH", size % 65_521, 1)  # Adler's sum of zeros
    data = b"\x78\xda" + part * 100 + rest + total
    header = struct.pack(">IIBBBBB", side, side, depth, {1: 0, 3: 2, 4: 6}[colours], 0, 0, 0)
    made = b"\x89PNG\r\n\x1a\n"
    for code, content in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")):
        made += struct.pack(">I", len(content)) + code + content
        made += struct.pack(">I", zlib.crc32(code + content))
    path.write_bytes(made)


def checkpoint(path: Path, size: int) -> None:
    """A compressed one of so many bytes of zeros."""
    import torch

    torch.save({"model": {"a": torch.zeros(1)}}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            if not name.endswith("data/0"):
                archive.writestr(name, content)
                continue
            with archive.open(name, "w", force_zip64=True) as file:
                for _ in range(size >> 20):
                    file.write(bytes(1 << 20))


def labelme(path: Path, mask: Path) -> None:
    """A shape that is an image in base64, beside one of 48 x 32 pixels."""
    import base64

    from PIL import Image

    Image.new("RGB", (48, 32)).save(path.with_suffix(".jpg"))
    text = base64.b64encode(mask.read_bytes()).decode()
    shape: dict[str, Any] = {"label": "cat", "shape_type": "mask", "points": [[0, 0], [8, 8]]}
    content = {"shapes": [{**shape, "mask": text}], "imagePath": path.with_suffix(".jpg").name}
    path.write_text(json.dumps(content))
