"""Small files made to do harm: to take memory or time without end, to read other files, to write to a terminal."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from refdesign.errors import LONGEST_LINE, RefdesignError
from refdesign.formats import archives, kernels, native, safetensors_file, torch_file
from refdesign.formats.conversion import Imported
from refdesign.formats.files import naming
from refdesign.formats.periodic import period, scaled_kernel
from refdesign.formats.tensors import TensorFile
from refdesign.verify.fuzz.foreign import read_map
from refdesign.verify.fuzz.foreign_files import pickled
from refdesign.verify.fuzz.mutations import zipped
from refdesign.verify.fuzz.native_mutations import plain_and_tensors, with_checksum
from refdesign.verify.fuzz.networks import sample
from refdesign.verify.fuzz.targets import good_files

LARGE = b"\x8a\xff" + b"\x7f" * 255  # an integer of 255 bytes, in a pickle


def group(*values: bytes | int) -> bytes:
    """A tuple of integers in a pickle."""
    return b"(" + b"".join(v if isinstance(v, bytes) else b"J" + struct.pack("<i", v) for v in values) + b"t"


def viewed(shape: bytes, stride: bytes, offset: bytes = b"K\x00") -> bytes:
    """A state dict of one tensor in a storage of six elements, whatever its shape says."""
    good, view = pickled({"w": np.zeros((2, 3), np.float32)}, {"w": "0"}), b"K\x00" + group(2, 3) + group(3, 1)
    assert good.count(view) == 1
    return zipped({"n/data.pkl": good.replace(view, offset + shape + stride), "n/data/0": bytes(24)})


STATE_DICTS: dict[str, tuple[bytes, str]] = {
    "a name of 2**60 parts": (zipped({"n/data.pkl": b"\x80\x02K\x01" + b"2\x86" * 60 + b"K\x01\x93."}), "damaged"),
    "a name of any depth": (zipped({"n/data.pkl": b"\x80\x02K\x01" + b"\x85" * 5000 + b"K\x01\x93."}), "damaged"),
    "extents that no one can print": (viewed(group(*[LARGE] * 8), group(*[1] * 8)), "of too many elements"),
    "no elements, far away": (viewed(group(0, 3), group(3, 1), LARGE), "no numbers of elements"),
    "one element, a stride without end": (viewed(group(1, 1), group(LARGE, LARGE)), "no numbers of elements"),
}


@pytest.mark.parametrize(("data", "message"), STATE_DICTS.values(), ids=STATE_DICTS)
def test_state_dicts(data: bytes, message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        torch_file.from_bytes(data)


def test_a_packed_storage_is_unpacked_once_for_all_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {f"w{number}": np.arange(6, dtype=np.float32).reshape(2, 3) for number in range(9)}

    def packed(keys: dict[str, str]) -> TensorFile:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("n/data.pkl", pickled(arrays, keys))
            for key in sorted({*keys.values()}):
                archive.writestr(f"n/data/{key}", arrays["w0"].tobytes())
        return torch_file.from_bytes(stream.getvalue())

    file = packed(dict.fromkeys(arrays, "0"))
    monkeypatch.setattr(archives, "LARGEST_UNPACKED", len(pickled(arrays, dict.fromkeys(arrays, "0"))) + 24)
    for name, stored in file.tensors.items():
        np.testing.assert_array_equal(stored.load(), arrays[name])
    monkeypatch.setattr(archives, "LARGEST_UNPACKED", 2000)  # and where they take turns, only so often
    file = packed({name: str(number % 2) for number, name in enumerate(arrays)})
    with pytest.raises(RefdesignError, match="unpacks to more than 2000 bytes"):
        _ = [stored.load() for _ in range(20) for stored in file.tensors.values()]


def test_tensors_of_one_storage_are_not_larger_than_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {f"w{number}": np.zeros((2, 3), np.float32) for number in range(9)}
    data = zipped({"n/data.pkl": pickled(arrays, dict.fromkeys(arrays, "0")), "n/data/0": bytes(24)})
    monkeypatch.setattr(torch_file, "LARGEST_FILE", 9 * 24)
    assert len(torch_file.from_bytes(data).tensors) == 9
    monkeypatch.setattr(torch_file, "LARGEST_FILE", 9 * 24 - 1)
    with pytest.raises(RefdesignError, match="found tensors of 216 bytes in all, expected at most 215"):
        torch_file.from_bytes(data)


def test_safetensors_names_and_shapes() -> None:
    digits = "\N{ARABIC-INDIC DIGIT THREE}" * 5000  # more than Python makes an integer of
    saved = safetensors.numpy.save({digits: np.ones(2, np.float32), "b": np.ones(3, np.float32)})
    assert {*safetensors_file.from_bytes(saved).tensors} == {digits, "b"}
    header = b'{"a":{"dtype":"F32","shape":[0,%d,%d],"data_offsets":[0,0]}}' % (2**63, 2**63)
    with pytest.raises(RefdesignError, match=r"tensor 'a': found shape \(0, .* of too many elements"):
        safetensors_file.from_bytes(len(header).to_bytes(8, "little") + header)


def test_a_long_header_is_refused_before_it_is_parsed() -> None:
    header = b'{"a":[' + b"{}," * (safetensors_file.LARGEST_HEADER // 3) + b"{}]}"
    data = len(header).to_bytes(8, "little") + header
    for read in (native.from_bytes, safetensors_file.from_bytes):
        with pytest.raises(RefdesignError, match="safetensors file"):
            read(data)


def test_refusals_are_one_bounded_line_in_print() -> None:
    plain, tensors = plain_and_tensors(native.to_bytes(sample()))
    plain["layers"][0]["x\x1b[31m\n" * 100_000] = 1
    with pytest.raises(RefdesignError, match=r"layer 'first': unknown field 'x\\x1b\[31m") as caught:
        native.from_bytes(with_checksum(plain, tensors))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= LONGEST_LINE
    assert str(RefdesignError("a\x1b[31m\nb\u202e\ud800")) == r"a\x1b[31m b\u202e\ud800"


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\nb", "a\u202eb", "\ud800"])
def test_names_are_in_print(name: str) -> None:
    plain, tensors = plain_and_tensors(native.to_bytes(sample()))
    with pytest.raises(RefdesignError, match=r"network, name: found .*expected text in print"):
        native.from_bytes(with_checksum({**plain, "name": name}, tensors))
    plain["layers"][0]["name"] = name
    renamed = {key.replace("first.", f"{name}."): array for key, array in tensors.items()}
    if name != "\ud800":  # which safetensors does not write
        with pytest.raises(RefdesignError, match="name: expected a name of its own in print"):
            native.from_bytes(with_checksum(plain, renamed))


def test_what_a_report_says_is_in_print() -> None:
    found = Imported(sample(), "ONNX", ("conv\x1b[2J",), ("a\nb",))
    assert (found.recognised, found.assumed) == ((r"conv\x1b[2J",), (r"a\nb",))


def numpy_file(descr: bytes, shape: bytes, data: bytes = b"") -> bytes:
    header = b"{'descr': '%s', 'fortran_order': False, 'shape': (%s), }\n" % (descr, shape)
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (numpy_file(b"|f1", b"1, 1", b"0"), "no array of numbers"),
        (numpy_file(b"|O8", b"1, 1", bytes(8)), "no array of numbers"),
        (numpy_file(b"<f4", b"0, 999999999, 999999999, 999999999", b""), "of too many elements"),
        (numpy_file(b"<f4", b"2, 1", bytes(4)), "found 4 bytes"),
    ],
)
def test_numpy_headers(array: bytes, message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        kernels.from_bytes(zipped({"values.npy": array}), ".npz")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ('"PAPER"', '{"self": 1}', "conventions: unknown field 'self'"),
        ("1e-05", "1" + "0" * 400, "layer 'a', batch_norm: epsilon: found '10000"),
        ("1e-05", "NaN", "layer 'a', batch_norm: epsilon: found 'nan', expected a number that is finite"),
        ("1e-05", "-1e999", "layer 'a', batch_norm: epsilon: found '-inf', expected a number that is finite"),
    ],
)
def test_layer_maps(place: str, value: str, message: str) -> None:
    good = good_files("layer-map")[0].decode()
    with pytest.raises(RefdesignError, match=message):
        read_map(good.replace(place, value, 1).encode())


def test_memory_that_is_not_there_is_an_error_of_the_file() -> None:
    told = r"^net\.onnx: found contents that take more memory than there is$"
    with pytest.raises(RefdesignError, match=told), naming(Path("net.onnx")):
        raise MemoryError


def test_periods_of_large_maps_take_one_look_at_every_row() -> None:
    """A map of 2**22 cells that repeats almost: comparing it with itself at every distance would take hours."""
    almost = np.zeros((1 << 21, 1, 2), np.float32)
    almost[-1] = 1
    assert period(almost, 0) == len(almost)
    assert period(np.tile(np.array([0.0, -0.0, 1.0, 0.0, 0.0, 1.0]), 50)[:, np.newaxis], 0) == 3
    channels = 1 << 16
    scale = np.arange(1, channels + 1, dtype=np.float32)
    kernel = scaled_kernel((scale * np.float32(0.5)).reshape(1, 1, -1), scale, "tile")
    assert kernel is not None
    np.testing.assert_array_equal(kernel, np.full((1, 1, 1), 0.5, np.float32))
