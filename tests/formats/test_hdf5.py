"""HDF5 files, in their process of their own: what is read, what is left aside, and what is refused or survived."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("h5py", reason="the extra 'hdf5' is not installed")

import h5py

from refdesign.errors import MissingExtra, RefdesignError
from refdesign.formats import hdf5, hdf5_worker


def image(fill: Callable[[Any], None]) -> bytes:
    with h5py.File("test", "w", driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        content: bytes = file.id.get_file_image()
    return content


def test_arrays_and_attributes_are_those_that_were_written() -> None:
    kinds = ("<f2", "<f4", ">f8", "<i1", ">i2", "<i8", "<u1", "<u4", "?")
    arrays = {kind: (np.arange(24).reshape(2, 3, 4) % 7).astype(kind) for kind in kinds}

    def fill(file: Any) -> None:
        for kind, array in arrays.items():
            file.create_dataset(f"deep/{kind}", data=array, compression="gzip")
        file["scalar"] = np.float32(1.5)
        file["text"] = "not read"
        file.attrs["name"], file.attrs["list"], file.attrs["number"] = "é", [b"a", b"bc"], 3
        file["deep"].attrs["matrix"] = np.eye(2)

    found = hdf5.read(image(fill))
    for kind, array in arrays.items():
        loaded = found.tensors[f"deep/{kind}"].load()
        assert loaded.dtype == np.dtype(kind).newbyteorder("=")
        np.testing.assert_array_equal(loaded, array)
    assert found.tensors["scalar"].load() == np.float32(1.5)
    assert found.attributes[""] == {"name": "é", "list": ["a", "bc"], "number": 3}
    assert found.aside == ("text",)


def test_what_lies_elsewhere_is_left_aside(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(np.arange(6.0).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.ones(3)

    def fill(file: Any) -> None:
        file["link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
        file["soft"] = h5py.SoftLink("/plain")
        file["plain"] = np.zeros(2)
        file.create_dataset("outside", shape=(6,), dtype="f8", external=[(str(tmp_path / "secret"), 0, 48)])
        layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", shape=(3,))
        file.create_virtual_dataset("virtual", layout)

    found = hdf5.read(image(fill))
    assert list(found.tensors) == ["plain"]
    assert sorted(found.aside) == ["link", "outside", "soft", "virtual"]


def test_groups_that_hold_themselves_end() -> None:
    def fill(file: Any) -> None:
        file["a/b/x"] = np.ones(2)
        file["a/b/again"] = file["a"]
        file["self"] = file["/"]

    assert list(hdf5.read(image(fill)).tensors) == ["a/b/x"]


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        # Chunks that were never written take no room in the file.
        (
            lambda file: file.create_dataset("x", shape=(2**40,), dtype="f4", chunks=(2**20,)),
            "more than 1073741824 bytes",
        ),
        (
            lambda file: [file.create_dataset(f"x{n}", shape=(2**27,), chunks=(2**20,)) for n in range(3)],
            "1073741824 bytes",
        ),
        (lambda file: file.create_group("/".join(["g"] * 40)), "nested more than 32 deep"),
        (lambda file: [file.create_group(f"g{n}") for n in range(20_001)], "more than 20000 objects"),
        (lambda file: [file.attrs.create(f"a{n}", "x" * 60_000) for n in range(300)], "16777216 characters"),
    ],
)
def test_sizes_are_bounded(fill: Callable[[Any], None], message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        hdf5.read(image(fill))


def test_damaged_files_are_refused() -> None:
    good = image(lambda file: file.create_dataset("x", data=np.arange(600.0), compression="gzip"))
    with hdf5.Worker() as worker:
        for size in range(0, len(good), 97):
            with pytest.raises(RefdesignError, match="found") as caught:
                worker.read(good[:size])
            assert "\n" not in str(caught.value)
        assert list(worker.read(good).tensors) == ["x"]


def test_a_parser_that_dies_is_an_error_and_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    good = image(lambda file: file.create_dataset("x", data=np.ones(2)))
    with hdf5.Worker() as worker:
        worker.read(good)
        process = worker._process
        assert process is not None
        os.kill(process.pid, signal.SIGSEGV)
        process.wait()
        assert list(worker.read(good).tensors) == ["x"]
        process = worker._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        monkeypatch.setattr(hdf5, "SECONDS", 0.3)
        begun = time.monotonic()
        with pytest.raises(RefdesignError, match="its parser does not finish"):
            worker.read(good)
        assert time.monotonic() - begun < 30


def test_an_array_of_too_many_axes_leaves_nothing_behind_for_the_next_file() -> None:
    odd = image(lambda file: file.create_dataset("x", data=np.zeros((1,) * 8 + (3,))))
    good = image(lambda file: file.create_dataset("y", data=np.arange(5.0)))
    with hdf5.Worker() as worker:
        with pytest.raises(RefdesignError, match="expected at most 8 extents"):
            worker.read(odd)
        np.testing.assert_array_equal(worker.read(good).tensors["y"].load(), np.arange(5.0))


def dying(tmp_path: Path, code: str) -> Path:
    script = tmp_path / "child.py"
    script.write_text(f"import os, signal, sys, json\nsys.stdin.buffer.read(8)\n{code}\n")
    return script


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "its parser died .by signal 11."),
        ("os._exit(3)", "its parser died .with status 3."),
        ("os.kill(os.getpid(), signal.SIGXCPU)", "its parser does not finish"),
        ("os.write(1, (2**40).to_bytes(8, 'little'))", "its parser died"),
        ("os.write(1, (3).to_bytes(8, 'little') + b'nonsense')", "its parser died"),
        ("os.write(1, (2).to_bytes(8, 'little') + b'{}')", "its parser died"),
        ("t = json.dumps({'attributes': {}, 'aside': [], 'arrays': [{'name': 'x', 'dtype': 'O', 'shape': [1]}]})"
         ".encode(); os.write(1, len(t).to_bytes(8, 'little') + t)", "its parser died"),
        ("t = json.dumps({'attributes': {}, 'aside': [], 'arrays': [{'name': 'x', 'dtype': 'int8', 'shape': [2**40]}]})"
         ".encode(); os.write(1, len(t).to_bytes(8, 'little') + t)", "elements, expected at most"),
    ],
)  # fmt: skip
def test_nothing_that_the_child_says_is_believed(
    code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "_SCRIPT", dying(tmp_path, code))
    with pytest.raises(RefdesignError, match=message):
        hdf5.read(b"\x89HDF")


def test_the_child_can_open_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under its limits the child tries a file, a socket and much memory, and reports what it got."""
    folder = Path(hdf5_worker.__file__).parent
    code = f"""
import resource, socket
sys.path.insert(0, {str(folder)!r})
import hdf5_worker
hdf5_worker._rehearse(); hdf5_worker._limit()
def tried(action):
    try:
        action()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "worked"
got = [tried(lambda: open("/etc/hostname")), tried(socket.socket), tried(lambda: bytearray(5 << 30))]
t = json.dumps({{"refused": " ".join(got)}}).encode()
os.write(1, len(t).to_bytes(8, "little") + t)
"""
    monkeypatch.setattr(hdf5, "_SCRIPT", dying(tmp_path, code))
    with pytest.raises(RefdesignError, match=r"^OSError OSError MemoryError$"):
        hdf5.read(b"")


def test_without_h5py_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(hdf5_worker.__file__).parent
    code = f"sys.path.insert(0, {str(folder)!r}); sys.modules['h5py'] = None; import hdf5_worker; hdf5_worker.main()"
    monkeypatch.setattr(hdf5, "_SCRIPT", dying(tmp_path, code))
    with pytest.raises(MissingExtra, match=r'h5py is not installed; .* "refdesign.hdf5."'):
        hdf5.read(b"")
