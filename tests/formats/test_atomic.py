"""Files are replaced whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from refdesign.errors import RefdesignError
from refdesign.formats import native
from refdesign.formats.atomic import replacing, write_bytes
from tests.formats.networks import binary_network


def test_an_error_inside_the_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(path) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_the_old_content_is_there_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with replacing(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RefdesignError, match="net: cannot be written: No space left on device"):
        native.write(binary_network(), path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["net"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_a_new_file_has_the_modes_that_files_get(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_folder_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match="cannot be written: it is a folder"):
        write_bytes(tmp_path, b"")
    with pytest.raises(RefdesignError, match="cannot be written: No such file or directory"):
        write_bytes(tmp_path / "none" / "a", b"")
    assert os.listdir(tmp_path) == []


def test_a_long_name_fits(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("a" * 250), b"x")
    assert (tmp_path / ("a" * 250)).read_bytes() == b"x"


def test_what_is_no_regular_file_stays_what_it_is(tmp_path: Path) -> None:
    """`/dev/null` as an output would be replaced by a file, where the user may."""
    path = tmp_path / "device"
    os.mkfifo(path)
    with pytest.raises(RefdesignError, match=r"device: cannot be written: it is no regular file$"):
        write_bytes(path, b"abc")
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert list(tmp_path.iterdir()) == [path]
