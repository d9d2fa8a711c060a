"""The C header is compiled into a program that computes a layer; the archive holds the same arrays."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from refdesign.api import Network
from refdesign.bits import pack_bool, unpack
from refdesign.conventions import PAPER
from refdesign.errors import RefdesignError
from refdesign.formats import firmware
from refdesign.network import BinaryConv2d, BinaryDense, MaxPool, NetworkData, PixelConv2d
from tests.channels import KERNEL, random_channels
from tests.formats.networks import real_network

PROGRAM = """
#include <stdio.h>
#include "net.h"
/* conv-2 of the header on bits read from stdin as bytes of 0 and 1, (rows, columns, channels); prints its bits. */
static int in[conv_2_input_rows][conv_2_input_columns][conv_2_input_channels];
int main(void) {
  for (int i = 0; i < conv_2_inputs; i++) ((int *)in)[i] = getchar() ? 1 : -1;
  for (int i = 0; i < conv_2_output_rows; i++) for (int j = 0; j < conv_2_output_columns; j++)
  for (int c = 0; c < conv_2_channels; c++) {
    int best = -1000000;
    for (int p = 0; p < conv_2_pool_rows; p++) for (int q = 0; q < conv_2_pool_columns; q++) {
      int a = 0, top = (i * conv_2_pool_stride_rows + p) * conv_2_stride_rows - conv_2_padding_rows;
      int left = (j * conv_2_pool_stride_columns + q) * conv_2_stride_columns - conv_2_padding_columns;
      for (int y = 0; y < conv_2_kernel_rows; y++) for (int x = 0; x < conv_2_kernel_columns; x++) {
        int r = top + y, s = left + x;
        if (r < 0 || s < 0 || r >= conv_2_input_rows || s >= conv_2_input_columns) continue;
        for (int d = 0; d < conv_2_input_channels; d++) {
          int bit = (conv_2_weights[c][y][x][d / BITS] >> SHIFT) & 1;
          a += in[r][s][d] * (bit ? ONE : -ONE);
        }
      }
      if (a > best) best = a;
    }
    int m = (i + conv_2_origin[0]) % (int)(sizeof conv_2_threshold / sizeof conv_2_threshold[0]);
    int n = (j + conv_2_origin[1]) % (int)(sizeof conv_2_threshold[0] / sizeof conv_2_threshold[0][0]);
    int t = conv_2_threshold[m][n][c], up = conv_2_direction[m][n][c];
    int fires = up > 0 ? best >= t : up < 0 ? best <= t : conv_2_constant[m][n][c] > 0;
    putchar(fires);
  }
  return 0;
}
"""


def network(**rules: object) -> Network:
    """Three layers; the second has every optional part, and channels in every direction and none."""
    rng = np.random.default_rng(12)
    bits = [pack_bool(rng.random(shape) < 0.5) for shape in ((70, 2, 3, 1), (66, 3, 2, 70), (5, 4 * 3 * 66))]
    first = PixelConv2d(name="conv-1", weights=bits[0], batch_norm=random_channels(3, 70, 700))
    second = BinaryConv2d(
        name="conv-2", weights=bits[1], padding=(1, 0), pool=MaxPool(size=(2, 2), stride=(2, 2)),
        batch_norm=random_channels(4, 66, 40), kernel=KERNEL,
    )  # fmt: skip
    last = BinaryDense(name="last", weights=bits[2], batch_norm=random_channels(5, 5, 40))
    return Network(
        name="n", input_shape=(9, 9, 1), layers=(first, second, last),
        conventions=PAPER.replace(arithmetic="onnxruntime", kernel_origin="center_crop", **rules),
    )  # fmt: skip


@pytest.mark.parametrize("language", ["c", "c++"])
@pytest.mark.parametrize("word_bits", firmware.WORD_BITS)
def test_a_compiled_layer_agrees(word_bits: int, language: str, tmp_path: Path) -> None:
    compiler = shutil.which("cc" if language == "c" else "c++")
    if compiler is None:
        pytest.skip(f"no compiler for {language}")
    big = word_bits == 32
    net = network(bit_one=-1 if big else 1, bit_order="big" if big else "little")
    firmware.write_header(net, tmp_path / "net.h", word_bits=word_bits)
    shift = f"({word_bits - 1} - d % BITS)" if big else "(d % BITS)"
    program = PROGRAM.replace("SHIFT", shift).replace("BITS", str(word_bits)).replace("-ONE", "1" if big else "-1")
    (tmp_path / "main.c").write_text(program.replace("ONE", "-1" if big else "1"))
    standard = "c99" if language == "c" else "c++11"
    flags = ["-x", language, f"-std={standard}", "-O1", "-Wall", "-Wextra", "-pedantic", "-Werror",
             "-Wno-unused-variable", "-Wno-unused-const-variable"]  # fmt: skip
    subprocess.run([compiler, *flags, "main.c", "-o", "main"], cwd=tmp_path, check=True, timeout=120)
    x = np.random.default_rng(13).integers(0, 256, (1, *net.input_shape), dtype=np.uint8)
    wanted = net.run(x, outputs=["conv-1.bits", "conv-2.bits"])
    given = (wanted["conv-1.bits"] > 0).astype(np.uint8).tobytes()
    printed = subprocess.run([tmp_path / "main"], input=given, capture_output=True, check=True, timeout=60).stdout
    np.testing.assert_array_equal(
        np.frombuffer(printed, np.uint8), (wanted["conv-2.bits"] > 0).astype(np.uint8).ravel()
    )


def test_a_header_has_several_rows_of_one_word_in_a_line(tmp_path: Path) -> None:
    firmware.write_header(network(), tmp_path / "net.h")
    lines = (tmp_path / "net.h").read_text().splitlines()
    start = next(place for place, line in enumerate(lines) if " conv_1_weights[" in line)
    values = network().layers[0].weights.words.ravel()  # type: ignore[attr-defined]
    first = re.findall(r"(\d+)ull", lines[start])
    assert first == [str(value) for value in values[: len(first)]]
    assert len(first) > 1


def test_a_header_says_how_a_layer_reads_its_input(tmp_path: Path) -> None:
    firmware.write_header(network(), tmp_path / "net.h")
    text = (tmp_path / "net.h").read_text()
    assert "conv_1_multiplier = 1, conv_1_offset = 0 }" in text
    assert "// conv_2: padding is 'zeros'" in text
    assert "conv_1: padding" not in text


def test_floats_in_a_header_read_back_bit_for_bit(tmp_path: Path) -> None:
    layer = network().layers[2]
    assert isinstance(layer, BinaryDense)
    assert layer.batch_norm is not None
    mean = np.array([1e-45, -3.4028235e38, 0.1, -0.0, 16777217], np.float32)
    net = dataclasses.replace(
        network(), layers=(*network().layers[:2],
                           dataclasses.replace(layer, batch_norm=dataclasses.replace(layer.batch_norm, mean=mean)))
    )  # fmt: skip
    firmware.write_header(net, tmp_path / "net.h")
    found = re.search(r"last_mean\[5\] = \{(.*)\};", (tmp_path / "net.h").read_text())
    assert found is not None
    written = np.array([value.removesuffix("f") for value in found[1].split(", ")]).astype(np.float32)
    np.testing.assert_array_equal(written.view(np.uint32), mean.view(np.uint32))


def test_the_archive_holds_the_arrays_and_is_reproducible(tmp_path: Path) -> None:
    net = network()
    firmware.write_npz(net, tmp_path / "a.npz", word_bits=8)
    firmware.write_npz(net, tmp_path / "b.npz", word_bits=8)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = np.load(tmp_path / "a.npz", allow_pickle=False)
    octets = found["conv-2_weights"]
    assert (octets.dtype, octets.shape) == (np.uint8, (66, 3, 2, 9))
    back = np.unpackbits(octets, axis=-1, count=70, bitorder="little").astype(np.int8) * 2 - 1
    np.testing.assert_array_equal(back, unpack(net.layers[1].weights))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(found["conv-2_threshold"], net.thresholds()["conv-2"].threshold)
    np.testing.assert_array_equal(found["conv-2_origin"], [0, 0])
    assert found["last_gamma"].dtype == np.float32


def test_word_order_turns_the_words_of_a_pixel_round() -> None:
    net = network()
    little = firmware.words(net.layers[1].weights, 32, net.conventions)  # type: ignore[attr-defined]
    big = firmware.words(net.layers[1].weights, 32, net.conventions.replace(word_order="big"))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(little[..., ::-1], big)


def test_what_is_no_integer_arithmetic_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match=r"a.h: not written: layer 'first': found real_conv2d"):
        firmware.write_header(real_network(grid=False), tmp_path / "a.h")
    with pytest.raises(RefdesignError, match="word_bits: found 16"):
        firmware.arrays(network(), word_bits=16)
    with pytest.raises(RefdesignError, match="layer 'conv-1': found sums that give 0"):
        firmware.arrays(network(sign_at_zero=0))
    clash = NetworkData(
        name="n", input_shape=(2, 2, 1),
        layers=(PixelConv2d(name="a", weights=pack_bool(np.ones((3, 1, 1, 1), np.bool_))),
                BinaryDense(name="a_b", weights=pack_bool(np.ones((2, 12), np.bool_)))),
    )  # fmt: skip
    with pytest.raises(RefdesignError, match="mistaken for another layer's"):
        firmware.write_npz(clash, tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []
