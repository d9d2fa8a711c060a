"""Mutated files of other frameworks: a short run of `python -m refdesign.verify.fuzz` over each of them."""

from __future__ import annotations

import pytest

from refdesign.verify.fuzz.campaign import try_files
from refdesign.verify.fuzz.foreign import FOREIGN
from refdesign.verify.fuzz.targets import TARGETS, good_files

HDF5 = ("keras", "keras-h5")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # mutated parameters overflow
@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize(
    "count", [pytest.param(300, id="quick"), pytest.param(20_000, id="long", marks=pytest.mark.slow)]
)
def test_mutated_files_are_refused_or_read(kind: str, count: int) -> None:
    if kind in HDF5:
        pytest.importorskip("h5py", reason="the extra 'hdf5' is not installed")
        count //= 10  # the parser's process takes longer, and as long as it may where a file makes it run for ever
    tally = try_files(kind, count, seed=count)
    assert 0.5 * count < tally.refused < count


@pytest.mark.parametrize("kind", FOREIGN)
def test_good_files_are_read(kind: str) -> None:
    if kind in HDF5:
        pytest.importorskip("h5py", reason="the extra 'hdf5' is not installed")
    for data in good_files(kind):
        TARGETS[kind].read(data)


@pytest.mark.parametrize("kind", FOREIGN)
def test_files_do_not_depend_on_the_clock(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is named by its seed and number alone."""
    if kind in HDF5:
        pytest.importorskip("h5py", reason="the extra 'hdf5' is not installed")
    monkeypatch.setattr("time.asctime", lambda *_: "Thu Jan  1 00:00:00 1970")
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert tuple(TARGETS[kind].seeds()) == good_files(kind)
