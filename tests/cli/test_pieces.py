"""The small parts: agreement, terminal pictures, the photograph, archives."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from refdesign.cli import _common as common
from refdesign.cli import _verdict as verdict
from refdesign.cli._agreement import Agreement, compare
from refdesign.cli._art import bit_map, shades
from refdesign.cli._files import archive
from refdesign.cli._photograph import AUTHORS, PLAIN, dither, quantiser
from refdesign.errors import RefdesignError


def test_negative_zero_differs_and_so_do_dtype_shape_and_absence() -> None:
    zero = np.array([0.0, 1.0], np.float32)
    assert compare({"y": zero}, {"y": np.array([-0.0, 1.0], np.float32)}) == Agreement(2, 1, "y[0]")
    assert compare({"y": zero}, {"y": zero.astype(np.float64)}) == Agreement(2, 2, "y")
    assert compare({"y": zero}, {"y": zero[:1]}) == Agreement(2, 2, "y")
    assert compare({"y": zero}, {}) == compare({}, {"y": zero}) == Agreement(2, 2, "y")
    assert compare({"y": zero}, {"y": zero.copy()}) == Agreement(2, 0, None)
    nan = np.array([np.nan], np.float32)
    assert compare({"y": nan}, {"y": nan.copy()}) == Agreement(1, 0, None)


def test_nothing_is_wrapped_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    common.console().print(Text("word " * 100))
    assert capsys.readouterr().out.count("\n") == 1


def test_a_table_breaks_no_word(capsys: pytest.CaptureFixture[str]) -> None:
    made = common.table("output", "compared", "notes", left=("output", "notes"))
    made.add_row("conv1.accumulator", "2,860,560", "max pool 2, padding 1 symmetric")
    common.console().print(made, width=20)
    printed = capsys.readouterr().out
    assert {"conv1.accumulator", "2,860,560", "symmetric"} <= set(printed.split())
    assert len(printed.splitlines()) > 2


@pytest.mark.parametrize("total", [None, 256])
def test_a_progress_bar_on_a_narrow_terminal_keeps_count_and_time(total: int | None) -> None:
    console = Console(width=50, file=io.StringIO(), force_terminal=True)
    progress = common.progress_on(console)
    progress.add_task(common.fitting("digits, ./a_long_name_of_a_port.py:forward", console.width), total=total)
    with console.capture() as printed:
        console.print(progress.get_renderable())
    assert "0:00:00" in printed.get()
    assert ("0/256" in printed.get()) == (total is not None)
    assert "?" not in printed.get()


@pytest.mark.parametrize(("furthest", "said"), [(0.0003, "less than 1 % of its bound"), (0.42, "42 % of its bound")])
def test_how_far_a_rounded_logit_went_is_never_no_percent(furthest: float, said: str) -> None:
    assert said in verdict.rounded({"logits": {"furthest": furthest}, "conv1.bits": {"furthest": 0.0}})


def test_a_map_of_bits_can_be_read_back_from_its_characters() -> None:
    bits = np.random.default_rng(1).choice([-1, 1], (5, 7)).astype(np.int8)
    lines = bit_map(bits)
    halves = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}
    rows = [[halves[character][half] for character in line] for line in lines for half in (0, 1)]
    np.testing.assert_array_equal(2 * np.array(rows)[:5] - 1, bits)
    np.testing.assert_array_equal([[c == "#" for c in line] for line in bit_map(bits, blocks=False)], bits > 0)


def test_shades_grow_with_the_grey() -> None:
    (line,) = shades(np.array([[0, 60, 120, 180, 255]], np.uint8))
    assert line == "  ░░▒▒▓▓██"


def test_a_quantiser_is_a_fixed_point() -> None:
    values = np.random.default_rng(2).integers(-300, 300, (40, 30)).astype(np.int32)
    boundaries = quantiser(values, 4)
    cells = np.searchsorted(boundaries, values)
    centres = [values[cells == cell].mean() for cell in range(5)]
    np.testing.assert_allclose(boundaries, np.convolve(centres, [0.5, 0.5], "valid"))


def test_one_cell_is_a_plain_threshold() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (12, 9)).astype(np.uint8)
    dithered = dither(pixels, PLAIN, "Sign", np.zeros((1, 1, 1), np.int64))
    (threshold,) = dithered.thresholds
    np.testing.assert_array_equal(dithered.values, 2 * pixels.astype(np.int32) - 255)
    np.testing.assert_array_equal(dithered.bits[:, :, 0], np.where(dithered.values >= threshold, 1, -1))


def test_a_kernels_cells_are_compared_in_turn() -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (11, 8)).astype(np.uint8)
    levels = np.array([[[0, 1], [2, 0]], [[1, 2], [0, 1]]])
    dithered = dither(pixels, AUTHORS, "DeSign", levels)
    assert dithered.values.shape == (9, 6)
    assert len(dithered.thresholds) == 3
    for row, column, slice_ in np.ndindex(9, 6, 2):
        threshold = dithered.thresholds[levels[row % 2, column % 2, slice_]]
        assert dithered.bits[row, column, slice_] == (1 if dithered.values[row, column] >= threshold else -1)


def test_an_archive_is_what_numpy_reads(tmp_path: Path) -> None:
    arrays = {"b.bits": np.ones((5, 3, 2), np.int8), "flag": np.zeros(5, np.bool_), "y": np.arange(5, dtype=np.float32)}
    with archive(tmp_path / "a.npz") as writer:
        for part in (slice(0, 2), slice(2, 5)):
            writer.append({name: array[part] for name, array in arrays.items()})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as saved:
        for name, array in arrays.items():
            assert saved[name].dtype == array.dtype
            np.testing.assert_array_equal(saved[name], array)


def fail_after_a_batch(path: Path) -> None:
    with archive(path) as writer:
        writer.append({"x": np.ones((2, 3))})
        raise RefdesignError("planted")


def test_an_archive_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match="planted"):
        fail_after_a_batch(tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []
