"""The helper that finds the shared inputs: it skips with a reason, and converts CIFAR-10 once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shared_data import cifar10_binary, require


def test_an_absent_input_skips_and_says_which_and_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFDESIGN_SHARED", str(tmp_path))
    with pytest.raises(pytest.skip.Exception) as skipped:
        require("data/released/kernels")
    assert str(skipped.value) == f"shared input 'data/released/kernels' is absent (looked in {tmp_path})"


CONVERTER = """
import pathlib, sys
archive = pathlib.Path(__file__).parent.parent / "data/cifar10_jpeg.tar.xz"
out = pathlib.Path(sys.argv[1])
out.mkdir()
(out / "test_batch.bin").write_bytes(archive.read_bytes())
with open(archive.parent.parent / "runs", "a") as runs:
    runs.write("run ")
"""


def test_cifar10_is_converted_once_and_again_when_the_archive_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared, cache = tmp_path / "shared", tmp_path / "cache"
    archive = shared / "data/cifar10_jpeg.tar.xz"
    for path, content in ((archive, "first"), (shared / "tools/cifar10_from_jpeg.py", CONVERTER)):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    monkeypatch.setenv("REFDESIGN_SHARED", str(shared))
    for _ in range(2):
        assert (cifar10_binary(cache) / "test_batch.bin").read_text() == "first"
    assert (shared / "runs").read_text() == "run "
    archive.write_text("the second")
    assert (cifar10_binary(cache) / "test_batch.bin").read_text() == "the second"
    assert (shared / "runs").read_text() == "run run "


def test_cifar10_holds_all_images(cifar10_root: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in cifar10_root.glob("*.bin")}
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    assert sizes == dict.fromkeys(names, 10_000 * (1 + 3 * 32 * 32))
