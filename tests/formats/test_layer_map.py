"""Layer maps: every field is checked before a file's arrays are looked at."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refdesign.conventions import LARQ, PAPER
from refdesign.errors import RefdesignError
from refdesign.formats import layer_map
from refdesign.network import MaxPool, Shortcut

NORM = {"mean": "m", "variance": "v", "gamma": None, "beta": "b", "epsilon": 1e-5}


def read(*layers: Any, **fields: Any) -> layer_map.LayerMap:
    return layer_map.from_bytes(json.dumps({"input_shape": [8, 9, 3], "layers": list(layers), **fields}).encode())


def test_every_field_arrives() -> None:
    found = read(
        {
            "name": "a", "kind": "binary_conv2d", "weights": "w", "layout": "HWIO", "binarise": "sign", "alpha": "s",
            "bias": "c", "batch_norm": NORM, "kernel": "baseline2x2", "stride": 2, "padding": [1, 0],
            "padding_mode": "ones", "dilation": [1, 3], "groups": 2, "pool": {"size": [2, 3], "stride": 1},
            "pool_behind": True, "shortcut": {"source": "z", "average_pool": 2, "channel_padding": [1, 2]},
            "hardtanh": True,
        },
        {"name": "b", "kind": "average_pool", "size": [2, 1]},
        {"name": "c", "kind": "real_dense", "weights": "w2", "channels_first": True},
        name="mine", conventions="LARQ",
    )  # fmt: skip
    first, second, third = found.plans()
    assert (first.rule, first.alpha, first.bias, first.layout, first.pool_behind) == ("sign", "s", "c", "HWIO", True)
    assert first.batch_norm is not None
    assert (first.batch_norm.gamma, first.batch_norm.beta, first.batch_norm.epsilon) == (None, "b", 1e-5)
    assert first.settings == {
        "stride": (2, 2), "padding": (1, 0), "padding_mode": "ones", "dilation": (1, 3), "groups": 2, "hardtanh": True,
        "pool": MaxPool(size=(2, 3), stride=(1, 1)),
        "shortcut": Shortcut(source="z", average_pool=2, channel_padding=(1, 2)),
    }  # fmt: skip
    assert getattr(first.kernel, "shape", None) == (2, 2, 4)
    assert second.settings == {"size": (2, 1)}
    assert (third.layout, third.channels_first) == ("OI", True)
    assert (found.name, found.conventions, found.input_shape) == ("mine", LARQ, (8, 9, 3))
    assert read(conventions={"arithmetic": "torch"}).conventions == PAPER.replace(arithmetic="torch")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"kind": "conv"}, "layer 'a', kind: found 'conv', expected one of pixel_conv2d"),
        ({"weights": None}, "weights: found 'None', expected text"),
        ({"layout": "OI"}, "layout: found 'OI', which a binary_conv2d has not"),
        ({"layout": "IHWO"}, "expected one of OIHW"),
        ({"wieghts": "x"}, "layer 'a', wieghts: unknown field"),
        ({"stride": 0}, "stride: .*integers from 1"),
        ({"padding": [1, 2, 3]}, "expected 2 integers"),
        ({"groups": True}, "groups: found 'True', expected a positive integer"),
        ({"pool": {"size": 2}}, "pool: "),
        ({"shortcut": {"average_pool": 2}}, "expected an object of source"),
        ({"batch_norm": {"mean": "m"}}, "expected an object of mean, variance and epsilon"),
        ({"batch_norm": {**NORM, "epsilon": "1"}}, "epsilon: found '1', expected a number"),
        ({"batch_norm": {**NORM, "k": "x"}}, "expected only mean, variance"),
        ({"kernel": [[]]}, "kernel: expected thresholds .m, n. or"),
        ({"kernel": "none"}, "kernel: found the name 'none'"),
        ({"hardtanh": 1}, "expected true or false"),
        ({"size": 2}, "size: found it in a binary_conv2d, which has none"),
        ({"kind": "average_pool"}, "expected 'size' and nothing else"),
        ({"kind": "binary_dense", "stride": 1}, "stride: found it in a binary_dense"),
    ],
)  # fmt: skip
def test_fields_that_are_none_are_named(layer: dict[str, Any], message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        read({"name": "a", "kind": "binary_conv2d", "weights": "w", **layer}).plans()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no object with 'layers'"),
        (b'{"layers": [1]}', "an entry without a name"),
        (b'{"layers": [], "x": 1}', "unknown field 'x'"),
        (b'{"layers": [], "input_shape": [1, 2]}', "input_shape: found"),
        (b'{"layers": [], "conventions": "MINE"}', "conventions: found 'MINE', expected one of PAPER"),
        (b'{"layers": [], "conventions": {"sign": 1}}', "unknown field 'sign'"),
        (b'{"layers": [], "conventions": 3}', "expected a preset"),
        (b'{"layers": [], "name": 3}', "name: expected text"),
    ],
)
def test_what_is_no_map_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        layer_map.from_bytes(data)


def test_beside_an_architecture_a_map_has_names_alone() -> None:
    assert read({"name": "a", "weights": "w", "batch_norm": "n"}).names()["a"]["weights"] == "w"
    with pytest.raises(RefdesignError, match="layer 'a', stride: found it beside an architecture"):
        read({"name": "a", "stride": 2}).names()
