"""The explorable's tables against the reference itself, for states of every control."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from docs.explorable import scene, tables, vector
from refdesign import run
from refdesign.conventions import PAPER
from refdesign.errors import RefdesignError
from refdesign.network import Stage
from simulator.run import Simulator
from simulator.schedule import fit
from simulator.trace import Tracer


@pytest.fixture(scope="module")
def made() -> tables.Tables:
    return tables.build()


states = st.builds(
    scene.State,
    dots=st.sampled_from(list(scene.INPUTS)),
    light=st.sampled_from(scene.LIGHTS),
    gamma=st.sampled_from(scene.GAMMAS),
    beta=st.sampled_from(scene.BETAS),
    dither=st.sampled_from(list(scene.DITHERS)),
    zero=st.sampled_from(scene.ZEROS),
    same_filter=st.none() | st.integers(0, 3),
)


def looked_up(made: tables.Tables, state: scene.State) -> dict[str, NDArray[np.int64]]:
    """What the page shows in a state: look-ups alone, as in the page's script."""
    table = made.arrays
    height, width = scene.photograph().shape
    kernel, light = list(scene.INPUTS).index(state.dots), scene.LIGHTS.index(state.light)
    bits = np.unpackbits(table["dots"][kernel, light], bitorder="little")[: height * width].reshape(height, width)
    windows = sum(
        bits[i : height - 2 + i, j : width - 2 + j].astype(np.int64) << (3 * i + j) for i in range(3) for j in range(3)
    )
    dither = list(scene.DITHERS).index(state.dither)
    gamma, beta = scene.GAMMAS.index(state.gamma), scene.BETAS.index(state.beta)
    zero = scene.ZEROS.index(state.zero)
    sums, signs = [], []
    for channel in range(4):
        chosen = channel if state.same_filter is None else state.same_filter
        sums.append(table["accumulator"][windows, chosen].astype(np.int64))
        cells = table["cell"][dither, channel][
            table["row_phase"][dither][:, np.newaxis], table["column_phase"][dither][np.newaxis]
        ]
        signs.append(table["bit"][zero, chosen, gamma, beta, cells, (sums[-1] + 9) // 2].astype(np.int64))
    total = table["sum4"][tuple(sign + 1 for sign in signs)]
    return {
        "dots.bits": 2 * bits[:, :, np.newaxis].astype(np.int64) - 1,
        "conv.accumulator": np.stack(sums, axis=-1),
        "conv.bits": np.stack(signs, axis=-1),
        "logits": total[:, :, np.newaxis],
    }


@settings(max_examples=30)
@given(state=states)
def test_looking_up_gives_what_the_reference_computes(made: tables.Tables, state: scene.State) -> None:
    expected = tables.reference(state)
    for name, values in looked_up(made, state).items():
        assert np.array_equal(values, expected[name][0]), name


def test_ties_are_among_the_states(made: tables.Tables) -> None:
    state = scene.State(gamma=0.0, beta=0.0, dither="sign", zero=0)
    assert not looked_up(made, state)["conv.bits"].any()
    assert (looked_up(made, scene.State(gamma=1.0, beta=1.0, dither="sign", zero=0))["conv.bits"] == 0).any()


@pytest.mark.parametrize("state", [scene.State(dither="3d", gamma=-0.75), scene.State(dots="d3", beta=0.25)])
def test_the_unfolded_float_path_agrees(made: tables.Tables, state: scene.State) -> None:
    images = scene.photograph()[np.newaxis, :, :, np.newaxis]
    expected = run.run(state.network(), images, path="float", outputs="all")
    for name, values in looked_up(made, state).items():
        assert np.array_equal(values, expected[name][0]), name


def test_no_grey_lies_on_the_boundary_of_dots() -> None:
    for name in scene.INPUTS:
        bits = {tables.reference(scene.State(dots=name, zero=zero))["dots.bits"].tobytes() for zero in scene.ZEROS}
        assert len(bits) == 1, name


def test_each_grey_fires_from_where_the_table_says(made: tables.Tables) -> None:
    photograph = scene.photograph().astype(np.int64)
    for index, name in enumerate(scene.INPUTS):
        cells = made.arrays["dots_fires"][index, 3][
            made.arrays["dots_row_phase"][index][:, np.newaxis], made.arrays["dots_column_phase"][index]
        ]
        outputs = tables.reference(scene.State(dots=name, light=scene.LIGHTS[3]))
        assert np.array_equal(photograph >= cells, outputs["dots.bits"][0, :, :, 0] > 0), name


def test_the_hardware_decides_as_the_fold(made: tables.Tables) -> None:
    table = made.arrays
    limit, flip = table["limit"][..., np.newaxis].astype(np.int64), table["flip"][..., np.newaxis] > 0
    fires = (limit <= tables.SUMS) ^ flip
    assert np.array_equal(np.where(fires, 1, -1), table["bit"][:2])


def test_the_last_cycle_holds_the_sum(made: tables.Tables) -> None:
    table = made.arrays
    assert np.array_equal(table["trace_accumulator"][:, -1], table["accumulator"])
    assert np.array_equal(table["trace_popcount"].sum(axis=1), table["popcount"])
    assert table["trace_valid"].tolist() == [0] * 8 + [1]
    assert (table["last_cycle"] - table["start_cycle"] == 8).all()


def test_the_photograph_s_trace_is_that_of_its_windows(made: tables.Tables) -> None:
    network = scene.State().network()
    tracer = Tracer(Simulator(network, fit(network, pe=4, simd=1)), scene.photograph()[None, ..., None])
    sums = tables.reference(scene.State())["dots.bits"][0, :, :, 0] > 0
    for row, column in ((0, 0), (46, 67), (148, 166)):
        start = int(made.arrays["start_cycle"][row, column])
        fields = tracer.stage("conv", start, start + 9).fields
        number = int((sums[row : row + 3, column : column + 3].ravel() << np.arange(9)).sum())
        assert np.array_equal(fields["accumulator"], made.arrays["trace_accumulator"][number])
        assert np.array_equal(fields["word"][:, 0], made.arrays["trace_word"][number])
        assert (set(fields["row"].tolist()), set(fields["column"].tolist())) == ({row}, {column})


def test_statistics_are_near_the_photograph_s() -> None:
    sums = tables.reference(scene.State())["conv.accumulator"][0].astype(np.float64)
    assert np.abs(sums.mean(axis=(0, 1)) - scene.MEANS).max() < 0.5
    assert np.abs(sums.std(axis=(0, 1)) - np.sqrt(scene.VARIANCES)).max() < 0.5


def test_neither_side_is_a_multiple_of_a_period() -> None:
    height, width = scene.photograph().shape
    for extent in (height, width, height - 2, width - 2):
        assert all(extent % period for period in (2, 3, 4, 8))


def test_bayer_cells_are_all_ranks() -> None:
    for size, ranks in scene.BAYER.items():
        assert sorted(np.array(ranks).ravel().tolist()) == list(range(size * size))


def test_default_network_is_exact_arithmetic() -> None:
    network = scene.State().network()
    assert network.conventions == PAPER
    assert isinstance(network.layers[1], Stage)


def test_the_block_holds_every_array(made: tables.Tables) -> None:
    block = made.block()
    for name, entry in made.index.items():
        kind = np.dtype(entry["type"].removesuffix("Array").lower()).newbyteorder("<")
        found = np.frombuffer(block, kind, int(np.prod(entry["shape"])), entry["start"])
        assert np.array_equal(found.reshape(entry["shape"]), made.arrays[name]), name


def test_a_file_that_is_no_vector_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vector.json"
    file.write_text("{}")
    with pytest.raises(RefdesignError, match=r"vector\.json, format"):
        vector.read(file)
