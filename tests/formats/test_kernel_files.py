"""Threshold kernels as files: what is written is read, the authors' own are known, and damaged ones are refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refdesign.design import published, published_names, read_variables
from refdesign.errors import RefdesignError
from refdesign.formats import kernels
from refdesign.parameters import ThresholdKernel
from refdesign.verify.fuzz.mutations import zipped
from tests.formats.same import differences
from tests.shared_data import require

VALUES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=3, max_side=4),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


@given(VALUES)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray[Any, Any]) -> None:
    kernel = ThresholdKernel(values)
    for suffix in kernels.SUFFIXES:
        path = tmp_path_factory.mktemp("kernels") / f"k{suffix}"
        kernels.write(kernel, path)
        assert list(differences(kernels.read(path), kernel)) == []


@pytest.mark.parametrize("suffix", kernels.SUFFIXES)
@pytest.mark.parametrize("name", published_names())
def test_published_kernels_keep_their_levels(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"k{suffix}"
    kernels.write(published(name), path)
    found = kernels.read(path)
    if suffix == ".mat":
        name = kernels.published_as(kernels.exact_values(found))[0]
    assert list(differences(found, published(name))) == []


def test_the_authors_files_are_known() -> None:
    for name in published_names():
        found = kernels.read(require(f"data/released/kernels/{name}.mat"))
        assert name in kernels.published_as(kernels.exact_values(found))


def test_the_authors_scores_are_listed() -> None:
    (only,) = read_variables(require("data/released/threshold_metrics.mat"))
    assert (only.name, only.shape, only.kind) == ("metric_means", (5, 1296), "float64")


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=True, **arrays)
    return stream.getvalue()


def npy(header: str, rest: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return zipped({"values.npy": b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + rest})


@pytest.mark.parametrize(
    ("suffix", "data", "message"),
    [
        (".json", b"", "found no JSON"),
        (".json", b"[" * 100_000, "found no JSON"),
        (".json", b"[1]", "found no object"),
        (".json", b"{}", "values: is missing"),
        (".json", b'{"values": [[1], [2, 3]]}', "values: found no array"),
        (".json", b'{"values": [[[[1]]]]}', "values: found int64 of 4 axes"),
        (".json", b'{"values": [["a"]]}', "values: found <U1"),
        (".json", b'{"values": [[NaN]]}', "non-finite"),
        (".json", b'{"values": [[1]], "levels": [[0.5]]}', "levels: found float64, expected integers"),
        (".json", b'{"values": [[1]], "levels": [[3]], "level_set": [1]}', "an index lies outside"),
        (".json", b'{"values": [[1]], "level_set": [[1]]}', "level_set: expected finite numbers"),
        (".npz", b"", "found no zip archive"),
        (".npz", zipped({}), "values: is missing"),
        (".npz", npz(values=np.array([[{}]], dtype=object)), "found no array of numbers in the archive"),
        (
            ".npz",
            npy("{'descr': '<f8', 'fortran_order': False, 'shape': (900000, 900000), }", bytes(8)),
            "found 8 bytes",
        ),
        (
            ".npz",
            npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, __import__('os')), }"),
            "no array of numbers",
        ),
        (".mat", b"", "no MAT-file of level 5"),
        (".mat", b"MATLAB 7.3 MAT-file".ljust(512), "save it with -v7"),
    ],
)
def test_what_holds_no_kernel_is_refused(suffix: str, data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / f"k{suffix}"
    path.write_bytes(data)
    with pytest.raises(RefdesignError, match=message) as caught:
        kernels.read(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_other_endings_are_refused(tmp_path: Path) -> None:
    for action in (kernels.read, lambda path: kernels.write(published("baseline2x2"), path)):
        with pytest.raises(RefdesignError, match=r"found the ending '.txt', expected one of .mat, .json, .npz"):
            action(tmp_path / "k.txt")


def test_how_a_kernel_was_designed_is_written(tmp_path: Path) -> None:
    kernels.write(published("baseline2x2"), tmp_path / "k.json", {"score": 0.5})
    written = json.loads((tmp_path / "k.json").read_text())
    assert (written["designed"], written["shape"]) == ({"score": 0.5}, [2, 2, 4])
