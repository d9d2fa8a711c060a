from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refdesign.design import read_mat, write_mat
from refdesign.errors import RefdesignError


def mat_bytes(variables: dict[str, object], **options: object) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables, **options)
    return stream.getvalue()


def refuse(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    with pytest.raises(RefdesignError, match=message) as caught:
        read_mat(path)
    assert str(caught.value).startswith(str(path))


@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=5),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, kernel: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("mat") / "kernel.mat"
    write_mat(path, kernel)
    back = read_mat(path)
    expected = kernel if kernel.ndim == 3 else kernel[:, :, np.newaxis]
    assert back.shape == expected.shape
    assert (back == expected).all()
    # As the authors' files are: two dimensions where there is one slice.
    assert scipy.io.loadmat(path)["kernel"].ndim == (2 if expected.shape[2] == 1 else 3)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int16, np.int64])
def test_other_number_formats_are_read(tmp_path: Path, dtype: type, compressed: bool) -> None:
    kernel: np.ndarray = np.arange(6).reshape(2, 3).astype(dtype)
    (tmp_path / "k.mat").write_bytes(mat_bytes({"kernel": kernel}, do_compression=compressed))
    assert (read_mat(tmp_path / "k.mat")[:, :, 0] == kernel).all()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"other": np.ones((2, 3))}, "a variable named 'other'"),
        ({"kernel": np.ones((2, 3)), "more": np.ones(1)}, "more than one variable"),
        ({"kernel": np.ones((2, 3)) * 1j}, "no real numeric array"),
        ({"kernel": "text"}, "no real numeric array"),
        ({"kernel": np.array([[{"a": 1}]], dtype=object)}, "no real numeric array"),
        ({"kernel": {"field": 1}}, "no real numeric array"),
        ({"kernel": np.ones((2, 3)) > 0}, "no real numeric array"),
        ({"kernel": np.ones((2, 3, 1, 4))}, "without two or three dimensions"),
        ({"kernel": np.ones((0, 3))}, r"an array of shape \(0, 3\)"),
        ({"kernel": np.array([[np.nan]])}, "non-finite"),
        ({}, "no MAT-file of level 5"),
    ],
)
@pytest.mark.parametrize("compressed", [True, False])
def test_other_variables_are_refused(
    tmp_path: Path, variables: dict[str, object], message: str, compressed: bool
) -> None:
    refuse(tmp_path / "k.mat", mat_bytes(variables, do_compression=compressed), message)


def test_other_files_are_refused(tmp_path: Path) -> None:
    good = mat_bytes({"kernel": np.ones((2, 3))})
    refuse(tmp_path / "a.mat", b"", "no MAT-file of level 5")
    refuse(tmp_path / "b.mat", b"MATLAB 7.3 MAT-file".ljust(512), "no MAT-file of level 5")
    refuse(tmp_path / "c.mat", mat_bytes({"kernel": np.ones((2, 3))}, format="4"), "no MAT-file of level 5")
    refuse(tmp_path / "d.mat", good[:126] + b"MI" + good[128:], "no MAT-file of level 5")
    refuse(tmp_path / "e.mat", good[:-8], "ends within an element")
    refuse(tmp_path / "f.mat", good + good[128:], "more than one variable")
    refuse(tmp_path / "h.mat", good + b"\0" * 8, "no array")
    refuse(tmp_path / "g.mat", bytes(1 << 25), "more than 16777216 bytes")
    with pytest.raises(RefdesignError, match="cannot be read"):
        read_mat(tmp_path)


def test_packed_data_is_unpacked_within_bounds(tmp_path: Path) -> None:
    header = mat_bytes({"kernel": np.ones((2, 3))})[:128]

    def packed(data: bytes) -> bytes:
        return header + struct.pack("<II", 15, len(data)) + data

    refuse(tmp_path / "a.mat", packed(zlib.compress(bytes(1 << 28), 9)), "cut short or larger than")
    refuse(tmp_path / "b.mat", packed(b"no zlib data"), "cannot be unpacked")
    refuse(tmp_path / "c.mat", packed(zlib.compress(struct.pack("<IId", 9, 8, 1.5))), "no array")


def test_lengths_that_contradict_the_shape_are_refused(tmp_path: Path) -> None:
    good = mat_bytes({"kernel": np.ones((2, 3))})
    at = good.index(struct.pack("<ii", 2, 3))
    refuse(tmp_path / "a.mat", good[:at] + struct.pack("<ii", 2, 2**31 - 1) + good[at + 8 :], "48 bytes of numbers")
    refuse(tmp_path / "b.mat", good[:at] + struct.pack("<ii", -2, 3) + good[at + 8 :], r"shape \(-2, 3\)")


@given(st.data())
def test_damaged_files_end_in_a_clear_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    good = bytearray(mat_bytes({"kernel": np.arange(6.0).reshape(2, 3)}, do_compression=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(124, len(good) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("mat") / "kernel.mat"
    path.write_bytes(bytes(good[: data.draw(st.integers(100, len(good)))]))
    message = None
    try:
        size = read_mat(path).size
    except RefdesignError as error:
        message = str(error)
    if message is None:
        # Other numbers or a transposed shape: as good a kernel as any.
        assert size == 6
    else:
        assert message.startswith(str(path))
        assert "\n" not in message


@pytest.mark.parametrize("kernel", [np.ones(3), np.ones((0, 2)), np.array([[np.inf]])])
def test_what_is_no_kernel_is_not_written(tmp_path: Path, kernel: np.ndarray) -> None:
    with pytest.raises(RefdesignError, match="kernel: found"):
        write_mat(tmp_path / "k.mat", kernel)
    assert not (tmp_path / "k.mat").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match="cannot be written"):
        write_mat(tmp_path / "absent" / "k.mat", np.ones((2, 3)))
