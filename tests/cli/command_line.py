"""Calls of the command line, in this process and in one of its own, and networks for it to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from refdesign.cli import cli
from refdesign.models import binarynet
from refdesign.parameters import ThresholdKernel
from tests.shared_data import CHECKOUT

KERNEL = ThresholdKernel(np.array([[[0.3, 0.9, 1.3]], [[0.6, -0.2, 0.1]]], dtype=np.float32))


def call(*arguments: object) -> Result:
    """The command line in this process; stdout and stderr apart."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def good(*arguments: object) -> str:
    """The stdout of a call that must succeed without a word on stderr."""
    result = call(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def refused(*arguments: object) -> str:
    """The one line on stderr of a call whose input cannot be used."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("refdesign: ")
    return lines[0].removeprefix("refdesign: ")


def process(*arguments: object, cwd: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "refdesign", *map(str, arguments)],
        cwd=cwd,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin", "HOME": str(cwd)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


INTERRUPTIBLE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def interruptible(*arguments: object) -> list[str]:
    """A process's command line that Ctrl-C reaches, also where the tests run in the background, which ignore it."""
    return [sys.executable, "-c", INTERRUPTIBLE, "-m", "refdesign", *map(str, arguments)]


def small_network(path: Path) -> Path:
    """A random network on images of 9 x 7 pixels with 1 channel, written to `path`."""
    binarynet(
        input_shape=(9, 7, 1), widths=(6, 15, 9), dense=(11,), classes=5, kernel=KERNEL, name="small", seed=3
    ).save(path)
    return path


def small_images(path: Path, count: int = 4) -> Path:
    """Random images for `small_network`, written to `path`."""
    pixels = np.random.default_rng(7).integers(0, 256, (count, 9, 7, 1), dtype=np.uint8)
    np.save(path, pixels)
    return path
