"""PyTorch's files: the arrays that PyTorch itself reads, nothing run, and damaged ones refused."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.errors import RefdesignError
from refdesign.formats import torch_file
from refdesign.formats.torch_pickle import Unknown, load
from refdesign.verify.fuzz.foreign_files import old_state_dict, pickled, state_dict
from refdesign.verify.fuzz.mutations import zipped

pytest.importorskip("torch", reason="the extra 'torch' is not installed")

import torch


def saved(value: Any, *, old: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not old)
    return stream.getvalue()


def tensors() -> dict[str, Any]:
    """Of every type of element, dense and strided."""
    generator = torch.Generator().manual_seed(3)
    real = torch.randn(5, 3, 2, 4, generator=generator)
    kinds = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8")
    found = {kind: (real * 9).to(getattr(torch, kind)) for kind in kinds}
    return found | {
        "bool": real > 0,
        "channels_last": real.to(memory_format=torch.channels_last),
        "transposed": real[0, 0].T,
        "part": real.flatten()[7:30:3],
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(real[1]),
        "shared": real[1],
    }


@pytest.mark.parametrize("old", [False, True])
def test_arrays_are_those_that_pytorch_reads(old: bool) -> None:
    data = saved(tensors(), old=old)
    found = torch_file.from_bytes(data).tensors
    expected = torch.load(io.BytesIO(data), weights_only=True)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        array = found[name].load()
        detached = tensor.detach()
        plain = (detached.float() if detached.dtype == torch.bfloat16 else detached).numpy()
        assert (array.dtype, array.shape) == (plain.dtype, plain.shape), name
        np.testing.assert_array_equal(array, plain)


@pytest.mark.parametrize("old", [False, True])
def test_weights_are_found_in_checkpoints(old: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 2, 4, 5)).sum().backward()
    optimizer.step()
    whole = {
        "epoch": 3,
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "note": {"a": [1, None]},
    }
    file = torch_file.from_bytes(saved(whole, old=old))
    assert list(file.tensors) == list(model.state_dict())
    assert file.notes == ("state dict taken from 'state_dict'; left aside: epoch, note, optimizer",)
    nested = {"parts": {"model": model.state_dict(), "optimiser": optimizer.state_dict()}, "figures": [[1.0, 2.0]]}
    assert torch_file.from_bytes(saved(nested, old=old)).notes[0].startswith("state dict taken from 'parts.model'")


class _Private:
    """An object of a class that only its author has."""


def test_objects_of_unknown_classes_are_left_aside() -> None:
    whole = {"args": _Private(), "net": {"w": torch.ones(2, 3)}, "when": np.float64(3)}
    file = torch_file.from_bytes(saved(whole))
    assert (list(file.tensors), file.notes) == (["w"], ("state dict taken from 'net'; left aside: args, when",))


class _Effect:
    """What an attacker writes: a call when the file is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nothing_in_a_file_is_run(tmp_path: Path, protocol: int) -> None:
    attack = pickle.dumps({"x": _Effect(tmp_path / "made")}, protocol=protocol)
    found = load(attack).value["x"]
    assert isinstance(found, Unknown)
    assert "mkdir" in found.name
    with pytest.raises(RefdesignError, match="expected a state dict"):
        torch_file.from_bytes(zipped({"net/data.pkl": attack}))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_are_those_that_python_reads(protocol: int) -> None:
    value: dict[str | int, Any] = {
        "ints": [0, 255, -1, 65_535, 2**31, -(2**63), 2**200], "floats": (0.0, -1.5, 1e300), "text": "é\n𝄞",
        "none": None, "truth": [True, False], "empty": [{}, [], ()], 7: "number", "deep": [[[[1]]]],
    }  # fmt: skip
    if protocol > 2:  # where bytes are a call
        value["bytes"] = b"\x00\xff"
    assert load(pickle.dumps(value, protocol=protocol)).value == value


def refused(data: bytes) -> str:
    def read() -> None:
        for tensor in torch_file.from_bytes(data).tensors.values():
            tensor.load()

    with pytest.raises(RefdesignError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_kinds_of_files_are_named() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.nn.Sequential(torch.nn.Linear(2, 3))
        stream = io.BytesIO()
        torch.jit.save(torch.jit.script(model), stream)
    assert "TorchScript program, expected a state dict" in refused(stream.getvalue())
    for old in (False, True):
        message = refused(saved(model, old=old))
        assert "object of torch.nn.modules.container.Sequential" in message
        assert "save model.state_dict()" in message
    assert refused(saved(torch.ones(2))) == (
        "found one tensor without tensors by name, expected a state dict: save model.state_dict(), not the model"
    )
    assert "several dictionaries of tensors, 'a', 'b'" in refused(
        saved({"a": {"w": torch.ones(2)}, "b": {"w": torch.ones(2)}})
    )
    assert "no file of torch.save" in refused(b"")
    assert "no file of torch.save" in refused(pickle.dumps([1, 2]))
    assert "without one NAME/data.pkl" in refused(zipped({"x": b""}))
    assert "big-endian" in refused(zipped({"net/data.pkl": b"", "net/byteorder": b"big"}))


def test_tensors_that_reach_beyond_their_storage_are_refused() -> None:
    array: np.ndarray[Any, Any] = np.arange(6, dtype=np.float32).reshape(2, 3)
    good = pickled({"w": array}, {"w": "0"})
    sizes = b"J" + (2).to_bytes(4, "little") + b"J" + (3).to_bytes(4, "little")
    assert good.count(sizes) == 1

    def changed(rows: int, columns: int, stride: tuple[int, int] = (3, 1)) -> bytes:
        old_stride = b"J" + (3).to_bytes(4, "little") + b"J" + (1).to_bytes(4, "little")
        new = b"".join(b"J" + n.to_bytes(4, "little", signed=True) for n in (rows, columns))
        steps = b"".join(b"J" + n.to_bytes(4, "little", signed=True) for n in stride)
        data = good.replace(old_stride, b"@@").replace(sizes, new).replace(b"@@", steps)
        return zipped({"net/data.pkl": data, "net/data/0": array.tobytes()})

    np.testing.assert_array_equal(torch_file.from_bytes(changed(2, 3)).tensors["w"].load(), array)
    assert "found shape (2, 4) in a storage of 6 elements" in refused(changed(2, 4))
    assert "found shape (2, 2) in a storage" in refused(changed(2, 2, (5, 1)))
    assert "elements, expected at most" in refused(changed(2**30, 2**30, (0, 0)))
    assert "in a storage of 6 elements" in refused(changed(1000, 3, (0, 1)))
    assert "strides" in refused(changed(2, 3, (-3, 1)))
    assert "a shape that is none" in refused(changed(-2, 3))


def test_storages_of_another_size_are_refused() -> None:
    array = np.ones((2, 3), np.float32)
    data = pickled({"w": array}, {"w": "0"})
    assert "found 20 bytes, expected 6 elements" in refused(zipped({"net/data.pkl": data, "net/data/0": bytes(20)}))
    assert "no member 'net/data/0'" in refused(zipped({"net/data.pkl": data}))
    whole = old_state_dict({"w": array})
    assert "beyond the file's end" in refused(whole[:-1])


def test_archives_that_unpack_to_more_are_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", bytes(1 << 24))
    assert len(stream.getvalue()) < 1 << 16
    assert "found 16777216 bytes, expected at most 4194304" in refused(stream.getvalue())
    assert "more than 100000 members" in refused(b"PK\x01\x02" * 100_001)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        twice = io.BytesIO()
        with zipfile.ZipFile(twice, "w") as archive:
            archive.writestr("net/data.pkl", b"a")
            archive.writestr("net/data.pkl", b"b")
    assert "two members of one name" in refused(twice.getvalue())


def test_truncated_files_are_refused_or_whole() -> None:
    array = {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float32)}
    for good in (state_dict(array), old_state_dict(array)):
        for size in range(0, len(good), 7):
            assert refused(good[:size])
