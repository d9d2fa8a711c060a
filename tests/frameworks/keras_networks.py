"""Keras models and networks, there and back, on the backend in use; `keras_checks` runs this."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from keras import ops
from numpy.typing import NDArray

from refdesign.api import Network
from refdesign.conventions import PAPER
from refdesign.errors import RefdesignError
from refdesign.frameworks.keras import (
    PROGRAMS,
    BatchNormDeSign,
    BinaryConv2D,
    BinaryDense,
    DeSign,
    PixelInput,
    from_network,
    layer_outputs,
    to_network,
)
from refdesign.models import binarynet, resnet20
from refdesign.network import Layer, NetworkData, Stage
from refdesign.parameters import BatchNorm, ThresholdKernel
from refdesign.verify import strategies
from tests.properties.plain import plain, same

BACKEND = keras.backend.backend()
KERNEL = ThresholdKernel(np.array([[[0.5, -0.25], [1.0, 2.0]], [[0.0, 0.75], [-1.0, 0.5]]], np.float32))


def normal(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without numbers near the subnormal ones, which the backends take for zero."""
    return np.where(np.abs(values) < 1e-9, 0, values).astype(np.float32)


def followed(layer: Layer) -> Layer:
    """The nearest layer that the Keras layers have."""
    layer = plain(layer)
    assert isinstance(layer, Stage)
    norm = layer.batch_norm
    if norm is not None:
        gamma, beta, mean, variance = (normal(getattr(norm, f)) for f in ("gamma", "beta", "mean", "variance"))
        norm = BatchNorm(gamma, beta, mean, variance, 2.0**-10)
    kernel = layer.kernel if layer.kernel is None else ThresholdKernel(normal(layer.kernel.values))
    return replace(layer, batch_norm=norm, kernel=kernel)


def networks() -> st.SearchStrategy[NetworkData]:
    drawn = strategies.conventions(arithmetics=(PROGRAMS.get(BACKEND, "real"),))
    if BACKEND == "jax":  # which fuses the product with gamma, and is refused
        drawn = drawn.map(lambda conventions: conventions.replace(threshold_scale="unit"))
    found = strategies.networks(conventions=drawn, residual=False)
    return found.map(lambda network: replace(network, layers=tuple(followed(layer) for layer in network.layers)))


def models_and_networks_agree(examples: int) -> None:
    """Every output of `predict` is the network's; the network comes back whole, and the model from it is the same."""

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(networks(), st.data())
    def agree(drawn: NetworkData, data: st.DataObject) -> None:
        scaled = drawn.conventions.threshold_scale == "gamma"
        assume(not scaled or all(isinstance(layer, Stage) and layer.batch_norm for layer in drawn.layers))
        model = from_network(drawn, exact=False)
        arithmetic = None if BACKEND in PROGRAMS else "real"
        network = to_network(model, name=drawn.name, arithmetic=arithmetic)
        images = data.draw(strategies.images((2, *drawn.input_shape)))
        found = layer_outputs(model, images)
        expected = network.run(images, outputs="all")
        assert list(found) == list(expected)
        for name, array in expected.items():
            # Without a named program the logits and what is decided on them are another's.
            if BACKEND in PROGRAMS or name.endswith("0.accumulator"):
                np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)
        again = from_network(network, exact=BACKEND in PROGRAMS)
        comes_back_whole(network, to_network(again, name=network.name, arithmetic=arithmetic))

    agree()


def comes_back_whole(network: Network, again: Network) -> None:
    assert again.conventions == network.conventions
    for ours, theirs in zip(network.layers, again.layers, strict=True):
        assert type(ours) is type(theirs)
        for item in fields(ours):
            assert same(getattr(ours, item.name), getattr(theirs, item.name)), (ours.name, item.name)


def a_trained_model_is_exported_from_its_file() -> None:
    model = keras.Sequential(
        [
            keras.Input((9, 7, 3)), PixelInput(), BinaryConv2D(4, (3, 3), padding=(1, 1), groups=1, name="first"),
            keras.layers.MaxPooling2D((2, 1)), BatchNormDeSign(KERNEL, PAPER.replace(threshold_scale="gamma")),
            keras.Sequential([BinaryConv2D(6, (2, 3), groups=2, name="second"), keras.layers.Dropout(0.5)]),
            keras.layers.BatchNormalization(), DeSign(None, PAPER), keras.layers.Flatten(), BinaryDense(5, name="last"),
        ]
    )  # fmt: skip
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (6, 9, 7, 3), dtype=np.uint8)
    model.compile("adam", "squared_hinge")
    model.fit(images, rng.choice([-1.0, 1.0], (6, 5)).astype(np.float32), epochs=2, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        loaded = keras.saving.load_model(Path(folder) / "model.keras")
    live, saved = (to_network(one, name="trained", arithmetic="real") for one in (model, loaded))
    for name, array in live.run(images, outputs="all").items():
        np.testing.assert_array_equal(saved.run(images, outputs=name)[name], array, err_msg=name)
    if BACKEND == "tensorflow":
        comes_back_whole(to_network(model, name="trained"), to_network(loaded, name="trained"))
        expected = to_network(model, name="trained").run(images, outputs="all")
        for name, array in layer_outputs(loaded, images).items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name, strict=True)


def refused(message: str, *layers: Any, shape: tuple[int, ...] = (4, 5, 1), **settings: Any) -> None:
    model = keras.Sequential([keras.Input(shape), *layers])
    refuses(message, lambda: to_network(model, name="n", **settings))


def refuses(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(RefdesignError, match=re.escape(message)):
        call()


def what_has_no_counterpart_is_refused() -> None:
    def conv(name: str = "c", size: int = 3) -> BinaryConv2D:
        return BinaryConv2D(2, (size, size), name=name)

    layers = keras.layers
    refused("found BinaryConv2D first, expected PixelInput", conv())
    refused("found no layer", PixelInput())
    refused("'odd': found Conv2D", PixelInput(), layers.Conv2D(2, 3, name="odd"))
    refused("'odd': found BatchNormalization", PixelInput(), conv(), DeSign(), layers.BatchNormalization(name="odd"))
    refused("'odd': found DeSign", PixelInput(), conv(), BatchNormDeSign(), DeSign(name="odd"))
    refused("layer 'c': found a sign, expected none (the last)", PixelInput(), conv(), DeSign())
    refused("layer 'c': found no DeSign, expected one", PixelInput(), conv(), conv("d", 1))
    refused("layer 'c': found a max pool with padding 'same'", PixelInput(), conv(),
            layers.MaxPooling2D(2, padding="same"), arithmetic="real")  # fmt: skip
    refused("layer 'd': found BinaryDense first", PixelInput(), layers.Flatten(), BinaryDense(3, name="d"))
    refused("layer 'd', conventions", PixelInput(), conv(), DeSign(), conv("d", 1), DeSign(None, PAPER.replace(
        sign_at_zero=0)), conv("e", 1), arithmetic="real")  # fmt: skip
    refused("layer 'c': read_batch_norm", PixelInput(), conv(), layers.BatchNormalization(axis=1), arithmetic="real")
    refuses("found Model, expected a built keras.Sequential",
            lambda: to_network(keras.Model(), name="n"))  # fmt: skip
    with_norm = (PixelInput(), conv(), layers.BatchNormalization())
    if BACKEND == "torch":
        refused("found the backend 'torch', whose batch norm is no arithmetic that has a name", *with_norm)
    tiny = binarynet(input_shape=(4, 5, 1), classes=3, widths=(2, 4), dense=(), seed=1)
    message = "whose batch norm is no arithmetic" if BACKEND == "torch" else "arithmetic: found 'real', expected"
    refuses(message, lambda: from_network(tiny))
    refuses("expected weights of ±1 without a shortcut",
            lambda: from_network(resnet20(input_shape=(8, 12, 3), width=1 / 4), exact=False))  # fmt: skip
    if BACKEND == "tensorflow":
        first, *others = tiny.layers
        rooted = replace(first.batch_norm, k=np.full(2, 3, np.float32))  # type: ignore[attr-defined]
        plainer = tuple(replace(layer, batch_norm=None) for layer in others)  # type: ignore[call-arg]
        layers_ = (replace(first, batch_norm=rooted), *plainer)  # type: ignore[call-arg]
        other = replace(tiny, conventions=PAPER.replace(arithmetic="keras"), layers=layers_)
        refuses("layer 'conv1', batch_norm, k: found 3.0 in channel 0", lambda: from_network(other))
    if BACKEND == "jax":
        scaled = PAPER.replace(threshold_scale="gamma")
        refused("layer 'c': found thresholds scaled by gamma on JAX", PixelInput(), conv(),
                BatchNormDeSign(KERNEL, scaled), conv("d", 1))  # fmt: skip
    if BACKEND in PROGRAMS:
        small = layers.BatchNormalization()
        model = keras.Sequential([keras.Input((4, 5, 1)), PixelInput(), conv(), small])
        small.set_weights([np.array([1, 1e-40], np.float32), *(np.ones(2, np.float32) for _ in range(3))])
        refuses("layer 'c', batch norm: found a subnormal gamma", lambda: to_network(model, name="n"))


class Halved(BinaryConv2D):
    def call(self, x: Any) -> Any:
        return super().call(x) / 2


class Renamed(BinaryConv2D):
    """Another class, the same computation."""


class Residual(keras.Sequential):  # type: ignore[misc]
    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return inputs + super().call(inputs, training=training, mask=mask)


def what_an_export_would_lose_is_refused() -> None:
    pixels, last = PixelInput(), BinaryDense(2, name="last")
    refused("'c': found Halved, a BinaryConv2D with a call of its own", pixels, Halved(2, 3, name="c"))
    refused("'r': found Residual, a Sequential with a call of its own", pixels,
            Residual([keras.Input((4, 5, 1)), BinaryConv2D(1, 1)], name="r"))  # fmt: skip
    refused("'f': found Flatten with 'channels_first'", pixels, BinaryConv2D(2, 3), DeSign(),
            keras.layers.Flatten("channels_first", name="f"), last)  # fmt: skip
    refused("'c': found that it computes in 'bfloat16', expected 'float32'", pixels,
            BinaryConv2D(2, 3, name="c", dtype="mixed_bfloat16"))  # fmt: skip
    images = np.random.default_rng(1).integers(0, 256, (3, 4, 5, 1), np.uint8)
    model = keras.Sequential([keras.Input((4, 5, 1)), pixels, Renamed(2, 3, padding=(1, 0), name="c")])
    expected = to_network(model, name="n").run(images)["logits"]
    np.testing.assert_array_equal(np.asarray(model.predict(images, verbose=0)), expected)


def other_precisions_train_and_are_exported_where_meant() -> None:
    """Sums of ±1 up to 256 are exact in bfloat16, so that what is meant is what is computed."""
    images = np.random.default_rng(2).integers(0, 2, (6, 5, 7, 1), np.uint8)
    for policy in ("mixed_bfloat16", "float64"):
        settings: dict[str, Any] = {"dtype": policy}
        model = keras.Sequential([
            keras.Input((5, 7, 1)), PixelInput(2, -1, **settings), BinaryConv2D(4, 3, padding=1, name="c", **settings),
            DeSign(ThresholdKernel([[0.5, 1.0]]), **settings),
            BinaryConv2D(2, (2, 3), padding=1, padding_mode="ones", name="d", **settings),
        ])  # fmt: skip
        model.compile("sgd", "mse")
        model.fit(images, np.zeros((6, 6, 7, 2), np.float32), epochs=1, verbose=0)
        network = to_network(model, name="meant", arithmetic="real")
        found = np.asarray(ops.convert_to_numpy(ops.cast(model(images), "float32")))
        np.testing.assert_array_equal(found, network.run(images)["logits"])


def another_policy_makes_no_exact_model() -> None:
    plain_layers = tuple(
        replace(layer, batch_norm=None)  # type: ignore[call-arg]
        for layer in binarynet(input_shape=(4, 5, 1), classes=3, widths=(2, 4), dense=(), seed=1).layers
    )
    network = NetworkData(name="plain", input_shape=(4, 5, 1), layers=plain_layers)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        refuses("found that it computes in 'bfloat16', expected 'float32'", lambda: from_network(network))
        assert from_network(network, exact=False).layers[-1].compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert from_network(network).layers[-1].compute_dtype == "float32"


def wrong_arguments_are_refused_where_they_are_given() -> None:
    refuses("BinaryConv2D, padding: found 'same', expected an integer", lambda: BinaryConv2D(2, 3, padding="same"))  # type: ignore[arg-type]
    refuses("BinaryConv2D, kernel_size: found 0, expected an integer", lambda: BinaryConv2D(2, 0))
    if BACKEND == "tensorflow":  # the others trace with extents of their own in place of None
        open_ended = keras.Input((None, None, 3))
        refuses("c: found shape (None, None, None, 3), expected (N, H, W, C) with known H and W",
                lambda: BinaryConv2D(2, 3, name="c")(open_ended))  # fmt: skip
        refuses("DeSign: found shape (None, None, None, 3)", lambda: DeSign(ThresholdKernel([[0.5]]))(open_ended))
    refuses("the window spans 3 pixels, the padded map has 2", lambda: BinaryConv2D(2, 3)(ops.ones((1, 2, 5, 3))))
    refuses("DeSign, kernel: found a list, expected a ThresholdKernel", lambda: DeSign([[0.5, 1.0]]))  # type: ignore[arg-type]
    refuses("BatchNormDeSign, kernel: found a str", lambda: BatchNormDeSign("threshold_2x2_v1"))  # type: ignore[arg-type]


def check(examples: int) -> None:
    """All of it."""
    models_and_networks_agree(examples)
    a_trained_model_is_exported_from_its_file()
    what_has_no_counterpart_is_refused()
    what_an_export_would_lose_is_refused()
    other_precisions_train_and_are_exported_where_meant()
    another_policy_makes_no_exact_model()
    wrong_arguments_are_refused_where_they_are_given()
