"""Keras files: real ones in a process with TensorFlow, and descriptions written by hand, without it."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("h5py", reason="the extra 'hdf5' is not installed")

from refdesign.api import Network
from refdesign.bits import unpack
from refdesign.conventions import LARQ, RELEASED_KERAS
from refdesign.errors import RefdesignError
from refdesign.formats import conversion, foreign, keras_file, native
from refdesign.formats.foreign import Wanted
from refdesign.formats.keras_signs import activation, weight_rule
from refdesign.models import binarynet
from refdesign.verify.fuzz.foreign_files import keras_archive, keras_hdf5
from refdesign.verify.fuzz.mutations import zipped
from tests.formats.same import differences
from tests.shared_data import CHECKOUT


def test_real_files_give_their_models_bits(tmp_path: Path) -> None:
    for package in ("keras", "tensorflow"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (extra 'keras')")
    environment = {
        **os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-m", "tests.formats.keras_models", str(tmp_path)],
        cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout.splitlines()[-1] == "all files gave their models' bits"


def parts() -> tuple[dict[str, Any], bytes]:
    """A good archive's description and weights."""
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(keras_archive())) as archive:
        return json.loads(archive.read("config.json")), archive.read("model.weights.h5")


def read(model: Any, weights: bytes, **wanted: Any) -> Any:
    data = zipped({"config.json": json.dumps(model).encode(), "model.weights.h5": weights})
    return foreign.described(keras_file.from_bytes(data), Wanted(**wanted))


def test_a_description_of_every_kind_of_layer() -> None:
    network, report = read(*parts())
    assert [layer.kind for layer in network.layers] == ["pixel_conv2d", "binary_conv2d", "binary_dense"]
    first, second, last = network.layers
    assert (first.padding_mode, first.padding, first.multiplier, first.offset) == ("ones", (1, 1), 2, -255)
    # Zeros that are padded before a sign are what the sign makes of them.
    assert (second.padding_mode, second.padding, second.pool.size) == ("ones", (1, 1), (2, 2))
    assert last.batch_norm.beta.any()
    assert list(differences(native.from_bytes(native.to_bytes(network)), network)) == []
    assert network.conventions.sign_at_zero == 1
    assert network.conventions.bit_one == -1
    assert "the softmax behind the logits is left aside" in report.assumed
    same, _ = foreign.described(keras_file.from_bytes(keras_hdf5()), Wanted())
    pairs: list[tuple[Any, Any]] = list(zip(network.layers, same.layers, strict=True))
    for one, other in pairs:
        np.testing.assert_array_equal(unpack(one.weights), unpack(other.weights))


def test_a_pool_behind_a_batch_norm_is_moved_before_it() -> None:
    model, weights = parts()
    layers = model["config"]["layers"]
    names = [entry["config"]["name"] for entry in layers]
    at, behind = names.index("pool"), names.index("norm2")
    layers[at], layers[behind] = layers[behind], layers[at]
    moved, _ = read(model, weights)
    stayed, _ = read(*parts())
    one, other = moved.layers[1], stayed.layers[1]
    falls = other.batch_norm.gamma < 0
    assert falls.any()
    assert (one.batch_norm.gamma >= 0).all()
    np.testing.assert_array_equal(one.batch_norm.mean, np.where(falls, -other.batch_norm.mean, other.batch_norm.mean))
    signs = np.where(falls, -1, 1)[:, np.newaxis, np.newaxis, np.newaxis]
    np.testing.assert_array_equal(unpack(one.weights), unpack(other.weights) * signs)


def changed(name: str, **settings: Any) -> Callable[[dict[str, Any]], None]:
    def change(model: dict[str, Any]) -> None:
        layer = next(entry for entry in model["config"]["layers"] if entry["config"]["name"] == name)
        layer["config"] |= settings

    return change


def put(at: int, kind: str, **settings: Any) -> Callable[[dict[str, Any]], None]:
    entry = {"class_name": kind, "config": {"name": "new", **settings}}
    return lambda model: model["config"]["layers"].insert(at, entry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("norm1", axis=[1]), r"layer 'norm1' .batchnormalization.: axis: found 1, expected the last"),
        (changed("norm1", renorm=True), "found batch renormalisation"),
        (changed("norm1", scale=False), "found the variables gamma, beta, moving_mean, moving_variance, expected beta"),
        (changed("conv2", strides=[2, 2], padding="same"), "padding: found 'same'"),
        (changed("conv1", strides=[2, 2]), r"'same' with 0 before and 1 behind the map \(5, 6, 2\) at stride 2"),
        (changed("conv1", data_format="channels_first"), "expected 'channels_last'"),
        (changed("conv1", dtype={"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}), "'mixed_float16'"),
        (changed("conv1", pad_values=0.5), "pad_values: found 0.5"),
        (changed("conv1", kernel_size="x"), "kernel_size: found 'x'"),
        (changed("conv1", kernel_size=[9, 9], padding="valid"), "found a window of"),
        (changed("conv2", kernel_quantizer=None), "found weights with .* on bits.*--binarise sign"),
        (changed("conv2", kernel_quantizer="ste_tern"), "found the kernel quantizer 'stetern'"),
        (changed("conv2", kernel_quantizer={"class_name": "DoReFa", "config": {"k_bit": 2, "mode": "weights"}}),
         "DoReFa with 2 bits of weights, expected 1 of weights"),
        (changed("conv2", input_quantizer="ste_heaviside"), "activations must be ±1"),
        (changed("conv2", input_quantizer=None), "found binary weights on real inputs, expected a sign"),
        (changed("in", batch_shape=[None, None, None, 2]), "no fixed shape"),
        (changed("pad", padding=[[0, 1], [1, 1]]), "as much on both sides"),
        (changed("sign", activation="relu"), "found the activation or quantizer 'relu', expected a sign"),
        (put(4, "Conv2DTranspose"), "layer 'new' .conv2dtranspose.: found the activation or quantizer"),
        (put(4, "LSTM", units=3), "'lstm'"),
        (put(4, "Sequential", layers=[]), "a model inside the model"),
        (put(4, "Lambda", function="x"), "'lambda'"),
        (put(99, "Flatten"), "behind the softmax"),
        (put(1, "MaxPooling2D"), "follows no convolution"),
        (put(2, "Rescaling", scale=2), "behind a product or twice"),
    ],
)  # fmt: skip
def test_what_has_no_place_is_named(change: Callable[[dict[str, Any]], None], message: str) -> None:
    model, weights = parts()
    change(model)
    with pytest.raises(RefdesignError, match=message):
        read(model, weights)


def functional(nodes: dict[str, list[str]]) -> dict[str, Any]:
    """A functional model of activations that read each other."""
    layers = [
        {
            "class_name": "Activation", "config": {"name": name, "activation": "linear"},
            "inbound_nodes": [{"args": [{"config": {"keras_history": [source, 0, 0]}}]} for source in sources],
        }
        for name, sources in nodes.items()
    ]  # fmt: skip
    return {"class_name": "Functional", "config": {"name": "f", "layers": layers}}


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"a": [], "b": ["a"], "c": ["a"]}, "layer 'a': found two layers that read it, 'b' and 'c'"),
        ({"a": [], "b": ["a"], "c": ["a", "b"]}, "layer 'c' .activation.: found 2 inputs, expected one: branches"),
        ({"a": [], "b": []}, "found 2 inputs, expected one, the images"),
        ({"a": [], "b": ["c"], "c": ["b"]}, "3 layers, of which 1 follow each other"),
    ],
)
def test_branches_are_named(nodes: dict[str, list[str]], message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        read(functional(nodes), parts()[1])


def test_other_files_are_refused(tmp_path: Path) -> None:
    _, weights = parts()
    for data, message in (
        (b"", "no HDF5 file"),
        (zipped({"x": b""}), "without config.json and model.weights.h5"),
        (zipped({"config.json": b"[", "model.weights.h5": weights}), "config.json: found no valid JSON"),
        (zipped({"config.json": b"[" * 100_000, "model.weights.h5": weights}), "config.json: found no valid JSON"),
        (zipped({"config.json": b"{}", "model.weights.h5": b"x"}), "no HDF5 file"),
        (zipped({"config.json": b"{}", "model.weights.h5": weights}), "found a model of class ''"),
    ):
        path = tmp_path / "net.keras"
        path.write_bytes(data)
        with pytest.raises(RefdesignError, match=message) as caught:
            conversion.read(path)
        assert str(caught.value).startswith(f"{path}: ")
    path.write_bytes(keras_archive())
    with pytest.raises(RefdesignError, match="found no weights for dense2, dense3 among conv1, conv2, dense1"):
        conversion.read(path, architecture=binarynet(input_shape=(5, 6, 2), classes=5, widths=(3, 4), dense=(7, 8)))


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("ste_sign", "sign"),
        ({"class_name": "SteSign", "config": {"clip_value": 1.0}}, "sign"),
        ({"module": "m", "class_name": "function", "config": "approx_sign", "registered_name": "function"}, "sign"),
        ("magnitude_aware_sign", "xnor"),
        (None, None),
        ({"class_name": "Larq>NoOp", "config": {"precision": 1}}, None),
    ],
)
def test_quantizers_by_their_names(value: Any, rule: str | None) -> None:
    assert weight_rule(value) == rule


def test_signs_settle_the_conventions() -> None:
    assert activation("binary_tanh_unit").rules == {"sign_at_zero": -1, "sign_rule": "keras_round"}  # type: ignore[union-attr]
    assert activation({"class_name": "function", "config": "log_softmax"}) == "softmax"


def released_weights(**changes: Any) -> tuple[bytes, dict[str, Any]]:
    """Weights alone, as `tf.keras` saves the authors' BinaryNet: its class names, its order, biases and all."""
    import h5py

    rng = np.random.default_rng(8)
    shapes = {"conv2d__binary_layer": (3, 3, 2, 3), "conv2d__binary_layer_1": (3, 3, 3, 4),
              "dense__binary_layer": (24, 5), "dense__binary_layer_1": (5, 2)}  # fmt: skip
    arrays: dict[str, dict[str, Any]] = {}
    for number, (name, shape) in enumerate(shapes.items()):
        arrays[name] = {"kernel:0": rng.uniform(-1, 1, shape).astype(np.float32)}
        arrays[name] |= {"bias:0": np.zeros(shape[-1], np.float32)}
        if "dense" in name:
            arrays[name]["binary_weight:0"] = np.zeros(shape, np.float32)
        norm = {f"{leaf}:0": rng.normal(0, 1, shape[-1]).astype(np.float32) for leaf in keras_file.NORM_LEAVES[:3]}
        norm["moving_variance:0"] = rng.uniform(0.5, 2, shape[-1]).astype(np.float32)
        arrays[f"batch_normalization{f'_{number}' if number else ''}"] = norm
    arrays["dense__binary_layer"] |= changes
    with h5py.File("test", "w", driver="core", backing_store=False) as file:
        file.attrs["layer_names"] = [name.encode() for name in ("input_1", *arrays)]
        file.create_group("input_1").attrs["weight_names"] = []
        for name, leaves in arrays.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{leaf}".encode() for leaf in leaves]
            for leaf, array in leaves.items():
                group[f"{name}/{leaf}"] = array
        file.flush()
        return file.id.get_file_image(), arrays


def test_the_authors_weights_alone_are_mapped_in_their_order(tmp_path: Path) -> None:
    data, arrays = released_weights()
    path = tmp_path / "binarynet.h5"
    path.write_bytes(data)
    architecture = binarynet(input_shape=(5, 6, 2), classes=2, widths=(3, 4), dense=(5,), conventions=RELEASED_KERAS)
    found = conversion.read(
        path, architecture=architecture, binarise="keras_round", conventions=RELEASED_KERAS, arithmetic="real"
    )
    layers: tuple[Any, ...] = found.network.layers
    for layer, name in zip(layers, [name for name in arrays if "binary" in name], strict=True):
        kernel = arrays[name]["kernel:0"]
        expected = kernel.transpose(3, 0, 1, 2) if kernel.ndim == 4 else kernel.T
        np.testing.assert_array_equal(unpack(layer.weights) > 0, expected > 2.0**-24)
    np.testing.assert_array_equal(layers[2].batch_norm.mean, arrays["batch_normalization_2"]["moving_mean:0"])
    assert found.network.conventions == RELEASED_KERAS.replace(arithmetic="real")
    assert any(line.startswith("layers are matched in the order of the file") for line in found.assumed)
    path.write_bytes(released_weights(**{"bias:0": np.ones(5, np.float32)})[0])
    biased = conversion.read(
        path, architecture=architecture, binarise="keras_round", conventions=RELEASED_KERAS, arithmetic="real"
    )
    dense: Any = biased.network.layers[2]
    assert dense.batch_norm.affine.offsets == (1,) * 5


def test_descriptions_of_tf_keras_are_followed() -> None:
    """Nodes as lists, the input's shape under its older name, the class names without a module."""
    model, weights = parts()
    layers = model["config"]["layers"]
    layers[0] = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 5, 6, 2], "name": "in"}}
    before = None
    for entry in layers:
        entry["name"] = entry["config"]["name"]
        entry["inbound_nodes"] = [] if before is None else [[[before, 0, 0, {}]]]
        before = entry["name"]
    shuffled = [layers[0], *reversed(layers[1:])]
    made, _ = read({"class_name": "Functional", "config": {"name": "model", "layers": shuffled}}, weights)
    assert [layer.name for layer in made.layers] == ["conv1", "conv2", "dense1"]
    assert made.name == "model"


def test_a_file_that_larq_saved_gives_its_sums_and_bits(tmp_path: Path) -> None:
    """Made by Larq 0.14 (`larq_file.py`): its layers' configurations, its weights' names, Keras 2's HDF5."""
    data = Path(__file__).parent / "data"
    path = tmp_path / "larq.h5"
    path.write_bytes(gzip.decompress((data / "larq.h5.gz").read_bytes()))
    found = conversion.read(path)
    given = np.load(data / "larq.npz")
    outputs = Network.from_data(found.network).run(given["images"], outputs="all")
    assert [layer.name for layer in found.network.layers] == ["quant_conv2d_0", "quant_conv2d_1", "quant_dense"]
    for number, layer in enumerate(found.network.layers):
        np.testing.assert_array_equal(outputs[f"{layer.name}.accumulator"], given[f"sums{number}"])
    for number, layer in enumerate(found.network.layers[:-1]):
        np.testing.assert_array_equal(outputs[f"{layer.name}.bits"], given[f"bits{number}"])
    # Exact arithmetic, rounded once; Larq's logits are rounded as TensorFlow rounds.
    np.testing.assert_allclose(outputs["logits"], given["logits"], rtol=1e-5, atol=1e-5)
    assert found.network.conventions == LARQ.replace(arithmetic="real")
    assert found.assumed[0].startswith("arithmetic 'real'")
