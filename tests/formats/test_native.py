"""The network file format: what is written is read, bit by bit; what is wrong is one clear line."""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given

from refdesign.api import Network, load
from refdesign.bits import PackedBits, unpack
from refdesign.errors import RefdesignError
from refdesign.formats import native
from refdesign.formats.decoding import FIELDS
from refdesign.network import BinaryConv2d, BinaryDense, Convolution, NetworkData, PixelConv2d
from refdesign.parameters import ThresholdKernel
from tests.formats.networks import binary_network, described_networks, examples, real_network
from tests.formats.same import differences


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    native.write(binary_network(), path)
    return path


def refused(path: Path, *parts: str) -> str:
    """The one line with which a file is refused; it names the file and has these parts."""
    with pytest.raises(RefdesignError) as caught:
        native.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


def document_of(path: Path) -> dict[str, Any]:
    with safetensors.safe_open(path, framework="numpy") as opened:
        document: dict[str, Any] = json.loads(opened.metadata()["refdesign"])
    return document


def write_document(path: Path, document: object, tensors: dict[str, Any] | None = None, **metadata: str) -> None:
    found = safetensors.numpy.load_file(path) if tensors is None else tensors
    safetensors.numpy.save_file(found, path, {"refdesign": json.dumps(document), **metadata})


def edit(path: Path, change: Any, tensors: dict[str, Any] | None = None) -> None:
    """Edit the network in a file as someone would who keeps the checksum right."""
    document = document_of(path)
    change(document["network"])
    found = safetensors.numpy.load_file(path) if tensors is None else tensors
    stored = native.stored_tensors(safetensors.numpy.save(found))
    document["checksum"] = native.checksum(document["network"], stored)
    write_document(path, document, found)


@given(described_networks())
def test_every_field_comes_back_bit_by_bit(network: NetworkData) -> None:
    assert list(differences(native.from_bytes(native.to_bytes(network)), network)) == []


@pytest.mark.parametrize("network", examples(), ids=lambda network: network.name)
def test_examples_come_back_bit_by_bit(network: NetworkData, tmp_path: Path) -> None:
    native.write(network, tmp_path / "net")
    assert list(differences(native.read(tmp_path / "net"), network)) == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["net"]


def test_the_examples_have_every_field_of_every_class() -> None:
    """So that the tests above leave nothing out: each field is once something else than its default."""
    seen: set[tuple[type, str]] = set()
    for network in examples():
        for layer in network.layers:
            parts = [getattr(layer, item.name) for item in fields(layer)]
            for part in [layer, *parts, *(getattr(part, "affine", None) for part in parts)]:
                if type(part) in FIELDS:
                    changed = [f.name for f in fields(part) if repr(getattr(part, f.name)) != repr(f.default)]
                    seen |= {(type(part), name) for name in changed}
    assert {cls for cls, _ in seen} == set(FIELDS)
    # What convolutions inherit is read and written by the same code for all of them.
    inherited = {item.name for item in fields(Convolution)} - {"name"}
    unseen = {(cls, name) for cls, checks in FIELDS.items() for name in checks} - seen
    assert {name for _, name in unseen} <= inherited <= {name for _, name in seen}


def test_the_reader_knows_the_fields_of_every_class() -> None:
    for cls, checks in FIELDS.items():
        assert set(checks) == {item.name for item in fields(cls)}


def test_the_file_is_what_its_description_says(file: Path) -> None:
    """Read with safetensors, json and numpy only, as a stranger would from the module's text."""
    network = binary_network()
    with safetensors.safe_open(file, framework="numpy") as opened:
        assert list(opened.metadata()) == ["refdesign"]
        document = json.loads(opened.metadata()["refdesign"])
        assert (document["format"], document["version"]) == ("refdesign-network", 1)
        layers = document["network"]["layers"]
        assert [layer["kind"] for layer in layers] == ["pixel_conv2d", "binary_conv2d", "binary_dense", "binary_dense"]
        for layer, original in zip(layers, network.layers, strict=True):
            shape = layer["weights"]["bits"]
            octets = opened.get_tensor(f"{layer['name']}.weights")
            count = int(np.prod(shape))
            assert octets.shape == (-(-count // 8),)
            elements = [octets[i // 8] >> (i % 8) & 1 for i in range(count)]
            signs = np.where(np.array(elements) == 1, 1, -1).reshape(shape)
            assert isinstance(original, (PixelConv2d, BinaryConv2d, BinaryDense))
            assert isinstance(original.weights, PackedBits)
            assert np.array_equal(signs, unpack(original.weights))
        assert network.layers[0].batch_norm is not None  # type: ignore[attr-defined]
        assert np.array_equal(opened.get_tensor("first.batch_norm.k"), network.layers[0].batch_norm.k)  # type: ignore[attr-defined]
        assert document["network"]["conventions"]["bit_one"] == -1


def test_the_same_network_gives_the_same_bytes() -> None:
    assert len({native.to_bytes(binary_network()) for _ in range(5)}) == 1


def test_api_loads_what_it_saved(tmp_path: Path) -> None:
    Network.from_data(real_network(grid=True)).save(tmp_path / "net")
    loaded = load(tmp_path / "net")
    assert isinstance(loaded, Network)
    assert list(differences(NetworkData(**{f.name: getattr(loaded, f.name) for f in fields(loaded)}),
                            real_network(grid=True))) == []  # fmt: skip


def test_every_truncation_is_refused(file: Path) -> None:
    data = file.read_bytes()
    for length in [*range(40), *range(40, len(data), 97), len(data) - 1]:
        file.write_bytes(data[:length])
        refused(file)
    file.write_bytes(data[:5])
    refused(file, "not a safetensors file: found 5 bytes")
    file.write_bytes(data[:-1])
    refused(file, "tensors: the file is truncated or damaged")


def test_appended_bytes_are_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    refused(file, "tensors: the file is truncated or damaged")


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(pickle.dumps({"weights": [1, 2, 3]} | {str(i): i for i in range(99)}))
    refused(path, "not a safetensors file")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"x" * 999)
    refused(path, "not a safetensors file")
    safetensors.numpy.save_file({"w": np.zeros(3, np.float32)}, path)
    refused(path, "metadata: found no entry 'refdesign'", "not a network of this project")
    safetensors.numpy.save_file({"w": np.zeros(3, np.float32)}, path, {"format": "pt"})
    refused(path, "metadata: found no entry 'refdesign'")
    path.write_bytes((4).to_bytes(8, "little") + b"[1,]" + b"0" * 99)
    refused(path, "header: found no valid JSON")


def test_a_newer_version_is_named_before_anything_else(file: Path) -> None:
    document = document_of(file) | {"version": 2, "something new": True}
    write_document(file, document, {"new": np.zeros(2, np.float64)})
    refused(file, "version: found 2, expected at most 1: a newer refdesign wrote the file")
    for version in (0, "1", None, 1.0, True, -7):
        write_document(file, document | {"version": version})
        refused(file, "version: found", "expected 1")


def test_another_format_in_the_metadata(file: Path) -> None:
    write_document(file, document_of(file) | {"format": "else"})
    refused(file, "format: found 'else', expected 'refdesign-network'")
    write_document(file, ["refdesign-network"])
    refused(file, "format: found ['refdesign-network']")


def test_unknown_entries_of_the_metadata(file: Path) -> None:
    document = document_of(file)
    write_document(file, document, note="hello")
    refused(file, "metadata: unknown field 'note'")
    write_document(file, document | {"note": "hello"})
    refused(file, "metadata, refdesign: unknown field 'note'")
    del document["checksum"]
    write_document(file, document)
    refused(file, "metadata, refdesign: field 'checksum' is missing")


def test_one_flipped_weight_is_found_by_the_checksum(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-3] ^= 16
    file.write_bytes(data)
    refused(file, "checksum: the file says sha256:", ", its contents give sha256:", "the file was damaged or edited")


def test_an_edited_field_is_found_by_the_checksum(file: Path) -> None:
    document = document_of(file)
    document["network"]["layers"][0]["multiplier"] = 1
    write_document(file, document)
    refused(file, "checksum")


def test_a_renamed_tensor_is_found_by_the_checksum(file: Path) -> None:
    tensors = safetensors.numpy.load_file(file)
    tensors["first.batch_norm.k"], tensors["first.batch_norm.c"] = (
        tensors["first.batch_norm.c"], tensors["first.batch_norm.k"],
    )  # fmt: skip
    write_document(file, document_of(file), tensors)
    refused(file, "checksum")


def test_a_name_twice_and_nan_are_refused(file: Path) -> None:
    text = json.dumps(document_of(file))
    tensors = safetensors.numpy.load_file(file)
    twice = text.replace('"multiplier": 2', '"multiplier": 2, "multiplier": 1')
    safetensors.numpy.save_file(tensors, file, {"refdesign": twice})
    refused(file, "found a name twice")
    safetensors.numpy.save_file(tensors, file, {"refdesign": text.replace('"multiplier": 2', '"multiplier": NaN')})
    refused(file, "found NaN, expected finite numbers")
    safetensors.numpy.save_file(tensors, file, {"refdesign": text.replace('"multiplier": 2', '"multiplier": 1e999')})
    refused(file, "found 1e999, expected finite numbers")
    safetensors.numpy.save_file(tensors, file, {"refdesign": "[" * 100_000})
    refused(file, "nested too deeply")
    safetensors.numpy.save_file(tensors, file, {"refdesign": "9" * 10_000})
    refused(file, "found no valid JSON")


EDITS: list[tuple[Any, tuple[str, ...]]] = [
    (lambda n: n.update(author="me"), ("network: unknown field 'author'",)),
    (lambda n: n.pop("input_shape"), ("network: field 'input_shape' is missing",)),
    (lambda n: n.update(input_shape=[9, 10]), ("input_shape: found 2, expected 3 entries",)),
    (lambda n: n.update(input_shape=[9, 10, 0]), ("input_shape, 2: found 0, expected an integer from 1 to 65535",)),
    (lambda n: n["metadata"].update(a=1), ("metadata, a: found 1, expected text",)),
    (lambda n: n["conventions"].update(sign_at_zero=2), ("conventions, sign_at_zero: found 2",)),
    (lambda n: n.update(layers={}), ("layers: found {}, expected a list",)),
    (lambda n: n["layers"][0].pop("name"), ("layers, 0, name: found None, expected text",)),
    (lambda n: n["layers"][1].update(name="\ud800"), ("layer '\\ud800', name: found '\\ud800', expected Unicode",)),
    (lambda n: n["layers"][1].update(kind="conv3d"), ("layer 'second', kind: found 'conv3d', expected one of",)),
    (lambda n: n["layers"][1].update(bias=1), ("layer 'second': unknown field 'bias'",)),
    (lambda n: n["layers"][1].pop("groups"), ("layer 'second': field 'groups' is missing",)),
    (lambda n: n["layers"][1].update(stride=[1, True]), ("layer 'second', stride, 1: found True, expected",)),
    (lambda n: n["layers"][1].update(hardtanh=0), ("layer 'second', hardtanh: found 0, expected true or false",)),
    (lambda n: n["layers"][1].update(padding_mode="mirror"), ("layer 'second', padding_mode: found 'mirror'",)),
    (lambda n: n["layers"][1]["pool"].pop("size"), ("layer 'second', pool: field 'size' is missing",)),
    (lambda n: n["layers"][1]["batch_norm"].update(epsilon=1), ("layer 'second', batch_norm, epsilon: found 1",)),
    (lambda n: n["layers"][1]["batch_norm"].update(epsilon=-9.5), ("layer 'second', batch_norm", "positive sum")),
    (lambda n: n["layers"][1]["weights"].update(bits=[66, 2, 3, 4]), ("layer 'second', weights: found a tensor U8",)),
    (lambda n: n["layers"][1].update(weights={"int32": [66, 2, 3, 3]}), ("layer 'second', weights", "array of bits")),
    (lambda n: n["layers"][1]["weights"].update(bits=[2**31 - 1] * 4), ("layer 'second', weights", "expected U8 of")),
    (lambda n: n["layers"][1].update(groups=3), ("layer 'second', weights: found 66 outputs of 3 channels in 3",)),
    (lambda n: n["layers"][0]["kernel"].update(level_set=[0.0]), ("layer 'first', kernel", "outside the level set")),
    (lambda n: n["layers"][0]["kernel"].update(values={"float32": [2, 3]}), ("layer 'first', kernel, values",)),
    (lambda n: n["layers"][0].update(multiplier=2**31), ("layer 'first', multiplier: found 2147483648",)),
    (lambda n: n["layers"][3].update(name="third"), ("tensor 'third.weights' is missing",)),
    (lambda n: n["layers"].pop(3), ("tensor 'last.weights': found in the file, but no layer names it",)),
]  # fmt: skip


@pytest.mark.parametrize(("change", "parts"), EDITS)
def test_a_wrong_field_is_named_with_its_layer(change: Any, parts: tuple[str, ...], file: Path) -> None:
    edit(file, change)
    refused(file, *parts)


def test_a_wrong_tensor_is_named_with_its_layer(file: Path) -> None:
    original = file.read_bytes()
    for name, array, part in (
        ("first.batch_norm.gamma", np.full(6, np.nan, np.float32), "layer 'first', batch_norm, gamma: found nan at"),
        ("first.batch_norm.gamma", np.ones(6, np.float64), "found a tensor F64 of shape (6,), expected F32 of shape"),
        ("first.batch_norm.gamma", np.ones((6, 1), np.float32), "found a tensor F32 of shape (6, 1)"),
        ("first.batch_norm.variance", np.full(6, -1, np.float32), "layer 'first', batch_norm: batch norm, variance"),
        ("first.kernel.levels", np.full((2, 3, 1), -1, np.int64), "outside the level set"),
        ("third.weights", np.full(-(-5 * 528 // 8), 1, np.int8), "found a tensor I8"),
        ("last.weights", np.full(5, 255, np.uint8), "layer 'last', weights: found bits set after the last of 35"),
    ):
        file.write_bytes(original)
        tensors = safetensors.numpy.load_file(file)
        assert tensors[name].size == array.size
        edit(file, lambda network: None, tensors | {name: array})
        refused(file, part)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (
            {"kernel": ThresholdKernel(np.ones((1, 1), np.float32), np.zeros((1, 1), np.int64), (float("inf"),))},
            "kernel, level_set, 0: found inf",
        ),
        ({"padding": (1, 70_000), "padding_mode": "zeros"}, "padding, 1: found 70000"),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(change: dict[str, Any], part: str, tmp_path: Path) -> None:
    network = binary_network()
    first = replace(network.layers[0], **change)
    odd = NetworkData(name="odd", input_shape=network.input_shape, layers=(first,))
    with pytest.raises(RefdesignError) as caught:
        native.write(odd, tmp_path / "net")
    assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []
