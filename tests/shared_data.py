"""Where the large inputs are that do not travel with the project, and how tests ask for them.

They lie in ``shared`` beside the checkout, or where the environment variable ``REFDESIGN_SHARED`` says. A test
that needs one of them skips, naming the file, where it is absent; nothing here is ever copied into the project.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


def shared_folder() -> Path:
    """The folder of shared inputs, whether it exists or not."""
    return Path(os.environ.get("REFDESIGN_SHARED", CHECKOUT.parent / "shared"))


def require(relative: str) -> Path:
    """The path of a shared file or folder (``"data/released/kernels"``); skips the test where it is absent."""
    path = shared_folder() / relative
    if not path.exists():
        pytest.skip(f"shared input {relative!r} is absent (looked in {shared_folder()})")
    return path


def cifar10_binary(cache: Path) -> Path:
    """The folder of CIFAR-10 files in the official binary format, made once from the JPEG copy.

    ``cache`` is a folder that outlives the test run. The files are written to a temporary name and renamed, so
    an interrupted run leaves nothing half-made; a lock lets parallel test processes share one conversion. They
    are made again when the archive or the converter changes.
    """
    archive = require("data/cifar10_jpeg.tar.xz")
    converter = require("tools/cifar10_from_jpeg.py")
    pytest.importorskip("PIL", reason="the conversion of CIFAR-10 needs Pillow (extra 'plot')")
    states = [(path.name, path.stat()) for path in (archive, converter)]
    made_from = "\n".join(f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states)
    folder, stamp = cache / "cifar10", cache / "cifar10.made_from"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "cifar10.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder.is_dir() and stamp.exists() and stamp.read_text() == made_from):
            partial = cache / "cifar10.partial"
            for stale in (partial, folder):
                shutil.rmtree(stale, ignore_errors=True)
            subprocess.run([sys.executable, converter, partial], check=True)
            partial.rename(folder)
            stamp.write_text(made_from)
    return folder
