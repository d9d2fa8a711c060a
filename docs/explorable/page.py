"""The page as one file of HTML: template, style, script and tables, and nothing that a browser would have to fetch."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from docs.explorable import scene
from docs.explorable.tables import Tables, build, fold_of
from refdesign import datasets
from refdesign.bits import unpack

HERE = Path(__file__).parent
SCRIPT = ("tables", "pictures", "plots", "words", "controls")
"""The parts of the page's script, in the order in which they lie in one function."""


def html(made: Tables | None = None, home: str = "../index.html") -> str:
    """The page.

    Args:
        made: the tables; None builds them.
        home: where the site's front page lies, seen from this one.
    """
    made = build() if made is None else made
    picture = hero()
    values = {
        "css": (HERE / "page.css").read_text(encoding="utf-8"),
        "script": script(),
        "home": home,
        "site": home.removesuffix("index.html"),
        "kernels_in_all": f"{made.facts['kernels_in_all']:,}",
        "ranking_count": str(len(made.facts["ranking"])),
        "picture": "data:image/png;base64," + base64.b64encode(png(picture)).decode(),
        "picture_width": str(picture.shape[1]),
        "picture_height": str(picture.shape[0]),
        "header": made.header().replace("</", "<\\/"),
        "block": base64.b64encode(made.compressed()).decode(),
    }
    page = (HERE / "page.html").read_text(encoding="utf-8")
    for name, value in values.items():
        page = page.replace("{{" + name + "}}", value)
    return page


def script() -> str:
    """The page's script: its parts, in one function.

    >>> script()[:40]
    '"use strict";\\n(async () => {\\n// Looks va'
    """
    parts = "".join((HERE / "script" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPT)
    return f'"use strict";\n(async () => {{\n{parts}}})();'


def hero() -> NDArray[np.uint8]:
    """The first picture: left as it is, right as bits under Bayer's 8x8 tile; uint8 (226, 256)."""
    whole = datasets.photograph().astype(np.int64).reshape(256, 2, 256, 2).sum(axis=(1, 3))
    grey: NDArray[np.uint8] = ((whole + 2) // 4).astype(np.uint8)[8:234]
    thresholds = fold_of(scene.dots_layer("bayer8", 0.0))
    bits = unpack(thresholds.apply(scene.dots_sums(grey)))[0, :, :, 0]
    middle = 108
    picture = grey.copy()
    picture[:, middle:] = np.where(bits[:, middle:] > 0, 255, 0)
    return picture


def png(grey: NDArray[np.uint8]) -> bytes:
    """An 8-bit grey PNG.

    >>> png(np.zeros((2, 3), np.uint8))[:4]
    b'\\x89PNG'
    """
    height, width = grey.shape
    rows = b"".join(b"\0" + row.tobytes() for row in grey)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
