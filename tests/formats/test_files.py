"""Files that readers open: what is refused before a byte is read, and the name before each refusal."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from refdesign.errors import MissingExtra, RefdesignError, missing_extra
from refdesign.formats import keras_file, kernels, layer_map, native, onnx_in, safetensors_file, torch_file
from refdesign.formats.files import naming, opened, read_bytes

READERS: dict[str, Callable[[Path], object]] = {
    ".safetensors": native.read, ".onnx": onnx_in.read, ".pt": torch_file.read, ".keras": keras_file.read,
    ".foreign": safetensors_file.read, ".map": layer_map.read, ".json": kernels.read,
}  # fmt: skip


@pytest.mark.parametrize("ending", READERS)
def test_every_reader_names_what_it_cannot_open(ending: str, tmp_path: Path) -> None:
    if ending == ".onnx":
        pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    path = tmp_path / f"file{ending}"

    def refusal() -> str:
        with pytest.raises(RefdesignError) as caught:
            READERS[ending](path)
        return str(caught.value)

    assert refusal() == f"{path}: cannot be read: No such file or directory"
    os.mkfifo(path)  # nobody writes to it: whoever waits for it waits for ever
    assert refusal() == f"{path}: found something else than a regular file"
    path.unlink()
    path.mkdir()
    assert refusal() == f"{path}: cannot be read: Is a directory"
    path.rmdir()
    path.write_bytes(b"PK\x01")
    found = refusal()
    assert found.startswith(f"{path}: ")
    assert found.count(str(path)) == 1


def test_a_file_of_the_largest_size_is_read_and_no_larger_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcde")
    assert read_bytes(path, 5) == b"abcde"
    with pytest.raises(RefdesignError, match=r"^found 5 bytes, expected at most 4$"):
        read_bytes(path, 4)
    with opened(path) as (stream, size):
        assert (stream.read(2), size) == (b"ab", 5)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_file_can_have(name: str) -> None:
    with pytest.raises(RefdesignError, match=r"^cannot be read: "):
        read_bytes(name)


def test_an_error_while_reading_is_one_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(RefdesignError, match=r"^cannot be read: Input/output error$"), opened(path):
        raise OSError(5, "Input/output error")


def test_a_missing_package_is_no_error_of_the_file() -> None:
    with pytest.raises(MissingExtra, match=r"^h5py is not installed"), naming("net.keras"):
        raise missing_extra("hdf5", "h5py")
