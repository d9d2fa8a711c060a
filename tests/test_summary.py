"""What a network is counted to be, against counts by hand."""

from __future__ import annotations

import json

import numpy as np

from refdesign.models import binarynet, resnet20, vgg_small
from refdesign.parameters import ThresholdKernel
from refdesign.summary import summarise

KERNEL = ThresholdKernel(np.array([[[0.3, 0.9, 1.3]], [[0.6, -0.2, 0.1]]], dtype=np.float32))


def test_a_small_network_counted_by_hand() -> None:
    network = binarynet(input_shape=(9, 7, 1), widths=(6, 15, 9), dense=(11,), classes=5, kernel=KERNEL)
    found = summarise(network)
    expected = {
        # name: fan-in, weights, products, word operations, thresholds
        "conv1": (9, 6 * 9, 9 * 7 * 6 * 9, 9 * 7 * 6 * 9 * 8, 2 * 6),
        "conv2": (54, 15 * 54, 9 * 7 * 15 * 54, 9 * 7 * 15 * 9, 2 * 15),
        "conv3": (135, 9 * 135, 4 * 3 * 9 * 135, 4 * 3 * 9 * 9, 2 * 9),
        "dense1": (108, 11 * 108, 11 * 108, 11 * 2, 11),
        "dense2": (11, 5 * 11, 5 * 11, 5, 0),
    }
    keys = ("fan_in", "weights", "products", "word_operations", "thresholds")
    assert {layer["name"]: tuple(layer[key] for key in keys) for layer in found["layers"]} == expected
    assert all(layer["bits_per_weight"] == 1 for layer in found["layers"])
    assert found["total"]["weight_bits"] == 54 + 810 + 1215 + 1188 + 55
    assert found["total"]["threshold_bytes"] == 5 * (12 + 30 + 18 + 11)
    assert found["total"]["largest_accumulator_map_bytes"] == 9 * 7 * 15 * 4
    assert found["layers"][0]["domain"] == {"low": -9 * 255, "high": 9 * 255, "step": 2}
    assert found["layers"][1]["domain"] == {"low": -54, "high": 54, "step": 2}
    assert found["layers"][1]["output"] == [4, 3, 15]
    assert found["layers"][1]["outputs"] == ["conv2.accumulator", "conv2.pooled", "conv2.bits"]
    assert found["layers"][-1]["outputs"] == ["dense2.accumulator", "logits"]
    assert found["layers"][0]["weight_bytes"] == 6 * 9 * 8
    assert found["layers"][0]["batch_norm_bytes"] == 4 * 6 * 4


def test_what_stays_real_is_counted_as_real() -> None:
    layers = {layer["name"]: layer for layer in summarise(resnet20(input_shape=(16, 12, 3), width=1 / 4))["layers"]}
    dense = list(layers.values())[-1]
    assert dense["kind"] == "real_dense"
    assert (dense["bits_per_weight"], dense["word_operations"], dense["domain"]) == (32, 0, None)
    pool = next(layer for layer in layers.values() if layer["kind"] == "average_pool")
    assert (pool["products"], pool["weights"], pool["weight_bytes"]) == (0, 0, 0)
    residual = [layer for layer in layers.values() if "shortcut" in layer]
    assert residual
    assert all(layer["thresholds"] == 0 for layer in residual)


def test_a_grid_of_integers_is_counted_with_its_bits() -> None:
    first = summarise(vgg_small(input_shape=(16, 8, 3), width=1 / 16))["layers"][0]
    assert first["kind"] == "pixel_conv2d"
    assert first["bits_per_weight"] == 32
    assert first["weight_bytes"] == 4 * first["weights"]


def test_the_summary_is_plain_data() -> None:
    found = summarise(resnet20(input_shape=(16, 12, 3), width=1 / 4, kernel=None))
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, sort_keys=True))
    assert found["conventions"]["arithmetic"]
