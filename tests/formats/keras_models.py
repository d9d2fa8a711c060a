"""What `test_keras_files.py` runs in a process of its own: real Keras files, and the source framework's bits.

python -m tests.formats.keras_models FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from refdesign.api import Network
from refdesign.conventions import LARQ, PAPER, RELEASED_KERAS
from refdesign.formats import conversion
from refdesign.frameworks.keras import BinaryConv2D, BinaryDense, DeSign, PixelInput, read_batch_norm
from refdesign.frameworks.keras.roots import reciprocal_root
from refdesign.models import binarynet
from refdesign.parameters import ThresholdKernel

RANDOM = np.random.default_rng(12)
KERNEL = ThresholdKernel(RANDOM.normal(0, 1, (3, 2, 2)).astype(np.float32))


@keras.saving.register_keras_serializable(package="Larq")
def ste_sign(x: Any) -> Any:
    """Larq's sign: +1 at 0."""
    return ops.where(x >= 0, 1.0, -1.0)


class Quantized:
    """What Larq's layers share: quantizers by name, as its configurations have them."""

    def quantizers(self, settings: dict[str, Any]) -> dict[str, Any]:
        self.input_quantizer = settings.pop("input_quantizer", None)
        self.kernel_quantizer = settings.pop("kernel_quantizer", None)
        self.pad_values = settings.pop("pad_values", 0.0)
        return settings

    def described(self) -> dict[str, Any]:
        names = ("input_quantizer", "kernel_quantizer")
        return {name: getattr(self, name) for name in names}

    def read(self, x: Any, kernel: Any) -> tuple[Any, Any]:
        if self.input_quantizer:
            x = ste_sign(x)
        if self.kernel_quantizer == "dorefa":
            limited = ops.tanh(kernel)
            kernel = 2 * ops.round(limited / (2 * ops.max(ops.abs(limited))) + 0.5) - 1
        elif self.kernel_quantizer:
            kernel = ste_sign(kernel)
        return x, kernel


@keras.saving.register_keras_serializable(package="Larq")
class QuantConv2D(Quantized, layers.Conv2D):  # type: ignore[misc]
    """Larq's convolution in Keras 3, which Larq itself does not run on."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **self.quantizers(settings))

    def call(self, x: Any) -> Any:
        x, kernel = self.read(x, self.kernel)
        padding = self.padding
        if padding == "same" and self.pad_values:
            rows, columns = ((size - 1) // 2 for size in self.kernel_size)
            x = ops.pad(x, [[0, 0], [rows] * 2, [columns] * 2, [0, 0]], constant_values=self.pad_values)
            padding = "valid"
        return ops.conv(x, kernel, strides=self.strides, padding=padding, dilation_rate=self.dilation_rate)

    def get_config(self) -> dict[str, Any]:
        quantizer: Any = self.kernel_quantizer
        if quantizer == "dorefa":
            quantizer = {"class_name": "Larq>DoReFa", "config": {"k_bit": 1, "mode": "weights"}}
        own = {**self.described(), "kernel_quantizer": quantizer, "pad_values": self.pad_values}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="Larq")
class QuantDense(Quantized, layers.Dense):  # type: ignore[misc]
    """Larq's dense layer in Keras 3."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **self.quantizers(settings))

    def call(self, x: Any) -> Any:
        x, kernel = self.read(x, self.kernel)
        return ops.matmul(x, kernel)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.described()}


SIGNS = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "use_bias": False}


def larq(pad_values: float) -> Any:
    """A network as Larq's examples are, all its parts of different sizes."""
    return keras.Sequential([
        keras.Input((9, 11, 3)), layers.Rescaling(2, -255),
        QuantConv2D(6, 3, kernel_quantizer="ste_sign", use_bias=False), layers.BatchNormalization(scale=False),
        QuantConv2D(7, 3, padding="same", pad_values=pad_values, **SIGNS), layers.MaxPooling2D((2, 2)),
        layers.BatchNormalization(), layers.Dropout(0.5),
        QuantConv2D(5, (3, 2), strides=(1, 2), **{**SIGNS, "kernel_quantizer": "dorefa"}), layers.BatchNormalization(),
        layers.MaxPooling2D((1, 2)), layers.Flatten(),
        QuantDense(13, **SIGNS), layers.BatchNormalization(scale=False, center=False),
        QuantDense(4, **SIGNS), layers.BatchNormalization(scale=False), layers.Activation("softmax"),
    ])  # fmt: skip


def own(conventions: Any) -> Any:
    """This project's own layers, with a dither."""
    return keras.Sequential([
        keras.Input((9, 11, 3)), PixelInput(2, -255),
        BinaryConv2D(4, (3, 3), padding=(1, 1), padding_mode="symmetric"), layers.MaxPooling2D(2),
        layers.BatchNormalization(epsilon=1e-4), DeSign(KERNEL, conventions),
        BinaryConv2D(6, (3, 2), dilation=(1, 2)), layers.BatchNormalization(), DeSign(None, conventions),
        layers.Flatten(), BinaryDense(7), layers.BatchNormalization(epsilon=1e-4), DeSign(None, conventions),
        BinaryDense(3), layers.BatchNormalization(),
    ])  # fmt: skip


def functional() -> Any:
    """Real ends: a real first layer on scaled pixels, a mean, a real dense layer."""
    images = keras.Input((8, 10, 2))
    x = layers.ZeroPadding2D(1)(layers.Rescaling(1 / 127.5, -1)(images))
    x = layers.Conv2D(4, 3, use_bias=False)(x)
    x = layers.Activation(ste_sign)(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(BinaryConv2D(6, (3, 3))(x))
    return keras.Model(images, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


def trained(model: Any) -> Any:
    """The model with batch norms as after a training."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            channels = layer.moving_mean.shape[0]
            layer.moving_mean.assign(RANDOM.normal(0, 3, channels))
            layer.moving_variance.assign(RANDOM.uniform(0.5, 30, channels))
            if layer.scale:
                layer.gamma.assign(RANDOM.normal(0, 1, channels))
            if layer.center:
                layer.beta.assign(RANDOM.normal(0, 1, channels))
    return model


def compare(folder: Path, name: str, make: Callable[[], Any], signs: tuple[type, ...], logits: int) -> None:
    """Every file of a model gives its bits: those behind layers of `signs`, or read by them, and the logits."""
    model = trained(make())
    for ending in (".keras", ".h5"):
        path = folder / f"{name}{ending}"
        model.save(path)
        found = conversion.read(path, arithmetic="keras", root=reciprocal_root)
        network = Network.from_data(found.network)
        images = RANDOM.integers(0, 256, (7, *network.input_shape), dtype=np.uint8)
        outputs = network.run(images, outputs="all")
        bits = [key for key in outputs if key.endswith(".bits")]
        chosen: list[Any] = [layer for layer in model.layers if isinstance(layer, signs)]
        reads = (QuantConv2D, QuantDense, layers.GlobalAveragePooling2D)
        places = [
            layer.input if type(layer) in reads else layer.output
            for layer in chosen
            if getattr(layer, "input_quantizer", True)
        ]
        assert len(places) == len(bits) > 1, (name, bits)
        values = keras.Model(model.inputs, [*places, model.layers[logits].output])(images.astype(np.float32))
        for key, value in zip(bits, values, strict=False):
            expected = np.asarray(value).ravel()
            if set(np.unique(expected)) - {-1.0, 1.0}:
                expected = np.where(expected >= 0, 1, -1)
            uncertain = outputs.get(key.replace(".bits", ".uncertain"))
            sure = np.ones(expected.shape, bool) if uncertain is None else ~uncertain.ravel()
            np.testing.assert_array_equal(outputs[key].ravel()[sure], expected[sure], key)
        if "functional" in name:
            np.testing.assert_allclose(outputs["logits"], np.asarray(values[-1]), rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(outputs["logits"], np.asarray(values[-1]))
        exact = conversion.read(path)
        assert exact.network.conventions.arithmetic == "real"
        assert any("--arithmetic keras" in line for line in exact.assumed)
        if "larq" in name:
            assert found.network.conventions == LARQ
            assert found.assumed == ("the softmax behind the logits is left aside",)


def weights_alone(folder: Path) -> None:
    """Weights without a model, mapped onto an architecture."""
    model = trained(keras.Sequential([
        keras.Input((9, 7, 3)), PixelInput(2, -255),
        BinaryConv2D(4, (3, 3), padding=(1, 1), padding_mode="symmetric"), layers.BatchNormalization(epsilon=1e-4),
        DeSign(None, PAPER),
        BinaryConv2D(8, (3, 3), padding=(1, 1), padding_mode="symmetric"), layers.MaxPooling2D(2),
        layers.BatchNormalization(epsilon=1e-4), DeSign(None, PAPER), layers.Flatten(),
        BinaryDense(11), layers.BatchNormalization(epsilon=1e-4), DeSign(None, PAPER),
        BinaryDense(5), layers.BatchNormalization(epsilon=1e-4),
    ]))  # fmt: skip
    model.save_weights(folder / "net.weights.h5")
    architecture = binarynet(input_shape=(9, 7, 3), classes=5, widths=(4, 8), dense=(11,))
    found = conversion.read(
        folder / "net.weights.h5", architecture=architecture, binarise="sign", arithmetic="keras", root=reciprocal_root
    )
    images = RANDOM.integers(0, 256, (7, 9, 7, 3), dtype=np.uint8)
    logits = Network.from_data(found.network).run(images)["logits"]
    np.testing.assert_array_equal(logits, np.asarray(model(images.astype(np.float32))))
    norm: Any = found.network.layers[0]
    read = read_batch_norm(next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)))
    np.testing.assert_array_equal(norm.batch_norm.k, read.k)


def main(folder: Path) -> None:
    """All of it."""
    for pad_values in (0.0, 1.0):
        compare(folder, f"larq{pad_values:.0f}", lambda: larq(pad_values), (QuantConv2D, QuantDense), -2)  # noqa: B023
    for name, conventions in (("paper", PAPER), ("released", RELEASED_KERAS)):
        compare(folder, name, lambda: own(conventions), (DeSign,), -1)  # noqa: B023
    compare(folder, "functional", functional, (layers.Activation, layers.GlobalAveragePooling2D), -1)
    weights_alone(folder)
    print("all files gave their models' bits")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
