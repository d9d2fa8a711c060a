"""What the adapters of all frameworks share: which place of a model is which output, and in which layout.

A place is something inside a model that has a value in every run: a PyTorch submodule, a Keras layer, an output of an
ONNX graph. An output is taken from

1. the place that the user's map gives it;
2. else a place of its own name, `conv1.bits`;
3. else what the model returns under its name;
4. else a place that is named after the layer and what it is, `conv1.sign`, or `conv1` itself: its product's sums if
   it is a convolution or dense layer, its bits if it is a block. What was found so and turns out to hold no integers
   (a bias, scaled pixels), or bits other than ±1, is left out, and said.

What the model returns are the logits, or a mapping of outputs, or all outputs in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.network import NetworkData
from refdesign.verify.doors.layout import Layout
from refdesign.verify.doors.mapping import Map
from refdesign.verify.implementation import comparable_outputs, expected_shape

Array = NDArray[Any]

PARTS: Mapping[str, tuple[str, ...]] = {
    "accumulator": ("accumulator", "product.accumulator", "product", "conv", "linear", "dense"),
    "pooled": ("pooled", "pool"),
    "real": ("real",),
    "bits": ("bits", "activation", "sign", "act"),
}
"""How a layer's part may be called inside it: by the part of the output's name, the best first."""


class Model(Protocol):
    """A framework's model, ready to be run.

    Attributes:
        what: one line that names it.
        places: what has a value in every run, with its kind: `"product"`, `"block"` or `"value"`.
        layout: how it wants its images, `"n h w c"` or `"n c h w"`.
        dtype: in which type.
        channels_first: whether its maps are (N, C, H, W).
        returns: the outputs that it returns, in order, where it is known to return several.
        notes: what else a user should know of how it is run.
    """

    what: str
    places: Mapping[str, str]
    layout: str
    dtype: str
    channels_first: bool
    returns: Sequence[str]
    notes: Sequence[str]

    def run(self, images: Array, places: Sequence[str]) -> tuple[Any, dict[str, Array]]:
        """What it returns for images in its own layout and type, and the values at places; absent: never reached."""


class Adapted:
    """A framework's model as an implementation under test.

    Args:
        model: the model.
        network: the network that it implements.
        mapping: the user's map.

    Attributes:
        notes: how images and outputs are taken, and what was left out; complete after the first run.
    """

    def __init__(self, model: Model, network: NetworkData, mapping: Map) -> None:
        self._model = model
        self._network = network
        self._outputs = mapping["outputs"]
        _check_tables(mapping)
        self._layout = mapping["input"].get("layout", model.layout)
        self._dtype = np.dtype(mapping["input"].get("dtype", model.dtype))
        self._sure = self._named(mapping["names"])
        self._taken = {**self._sure, **self._guessed()}
        self._notes = [self._about_input(), *model.notes]
        self._checked = False

    @property
    def notes(self) -> tuple[str, ...]:
        """How images and outputs are taken, and what was left out."""
        taken = [f"{output} from {place}" for output, place in self._taken.items() if output != place]
        said = [f"outputs by place: {', '.join(taken)}"] if taken else []
        if not self._taken and self._model.places:
            some = ", ".join(list(self._model.places)[:8])
            said = [f"no place in it is named after a layer, so what it returns is all; a map can name {some}, ..."]
        return (*self._notes, *said)

    def __call__(self, images: NDArray[np.uint8]) -> Mapping[str, Array]:
        """Every output that can be taken from the model."""
        given = images.transpose(0, 3, 1, 2) if self._layout == "n c h w" else images
        given = np.ascontiguousarray(given, dtype=self._dtype)
        returned, inside = self._model.run(given, tuple(dict.fromkeys(self._taken.values())))
        answer = {name: self._ours(name, value) for name, value in self._returned(returned).items()}
        for output in answer.keys() - self._sure.keys():  # what it returns by name need not be guessed
            self._taken.pop(output, None)
        for output, place in self._taken.items():
            if place in inside:
                answer[output] = self._ours(output, inside[place])
        if not self._checked:
            self._checked = True
            self._leave_out(answer, inside)
        return {name: answer[name] for name in answer if name not in self._dropped}

    _dropped: frozenset[str] = frozenset()

    def _named(self, names: Mapping[str, str]) -> dict[str, str]:
        """Outputs that the map names, and places that have an output's own name."""
        known = self._model.places
        for output, place in names.items():
            if place not in known:
                some = ", ".join(list(known)[:12]) or "none that can be seen"
                raise RefdesignError(f"--map, {output}: found no {place!r} in {self._model.what}, which has {some}")
        own = {name: name for name in comparable_outputs(self._network) if name in known and name != "logits"}
        return {**own, **names}

    def _guessed(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for output in comparable_outputs(self._network):
            layer, _, part = output.rpartition(".")
            if output in self._sure or output == "logits" or output in self._model.returns:
                continue
            candidates = [f"{layer}.{name}" for name in PARTS[part]]
            kind = self._model.places.get(layer)
            if (part, kind) in (("accumulator", "product"), ("bits", "block")):
                candidates.append(layer)
            place = next((name for name in candidates if name in self._model.places), None)
            if place is not None:
                found[output] = place
        return found

    def _about_input(self) -> str:
        axes = {"n h w c": "(N, H, W, C)", "n c h w": "(N, C, H, W)"}[self._layout]
        maps = "; its maps are turned from (N, C, H, W)" if self._model.channels_first else ""
        return f"{self._model.what}: images given as {self._dtype} {axes}, 0 to 255{maps}"

    def _returned(self, returned: Any) -> Mapping[str, Any]:
        if isinstance(returned, Mapping):
            return returned
        if not isinstance(returned, (tuple, list)):
            return {"logits": returned}
        names = tuple(self._model.returns) or comparable_outputs(self._network)
        if len(returned) == 1:
            names = ("logits",)
        if len(returned) != len(names):
            raise RefdesignError(
                f"{self._model.what}: returned {len(returned)} values, expected the logits, a mapping of outputs, or "
                f"all {len(names)} outputs in order"
            )
        known = comparable_outputs(self._network)
        return {name: value for name, value in zip(names, returned, strict=True) if name in known}

    def _ours(self, output: str, value: Any) -> Array:
        """A value in our layout, where its shape or the map says how; else as it is, for the comparison to judge."""
        array = np.asarray(value)
        if array.dtype.kind == "V" and array.dtype.names is None:  # bfloat16 and its like: float32 holds them all
            array = array.astype(np.float32)
        if output not in comparable_outputs(self._network) or not array.ndim:
            return array
        shape = (len(array), *expected_shape(self._network, output))
        entry = self._outputs.get(output, {})
        if "layout" in entry:
            layout, sizes = Layout.parse(entry["layout"], len(shape)), entry.get("sizes", {})
            fits = array.shape == layout.file_shape(shape, sizes)
            return np.ascontiguousarray(layout.apply(array, shape, sizes)) if fits else array
        return _turned(array, shape, self._model.channels_first)

    def _leave_out(self, answer: Mapping[str, Array], inside: Mapping[str, Array]) -> None:
        """After the first run: what was only guessed, and cannot be what it was guessed to be."""
        dropped = set()
        for output, place in list(self._taken.items()):
            part = output.rpartition(".")[2]
            if place not in inside:
                why = "was not run exactly once, or gave no array"
            elif output in self._sure:
                continue
            elif answer[output].shape[1:] != expected_shape(self._network, output):
                why = f"has shape {inside[place].shape}"
            elif part in ("accumulator", "pooled") and not _integers(answer[output]):
                why = "holds other than integers"
            elif part == "bits" and not np.isin(np.abs(answer[output]), (0, 1)).all():
                why = "holds other than bits"
            else:
                continue
            self._notes.append(f"{place}: {why}, so it is not compared as {output} (a map can name the place)")
            del self._taken[output]
            dropped.add(output)
        self._dropped = frozenset(dropped)


def _check_tables(mapping: Map) -> None:
    """Refuse what says how files hold values."""
    wrong = [("defaults", key) for key in mapping["defaults"]]
    wrong += [(name, key) for name, entry in mapping["outputs"].items() for key in set(entry) - {"layout", "sizes"}]
    for where, key in wrong:
        raise RefdesignError(f"--map, {where}: found {key!r}, which is about files, expected layout or sizes")


def _integers(array: Array) -> bool:
    return array.dtype.kind in "iub" or bool((np.isfinite(array) & (array == np.rint(array))).all())


def _turned(array: Array, shape: tuple[int, ...], channels_first: bool) -> Array:
    """From (N, C, H, W), or a flattened map, to (N, H, W, C)."""
    if len(shape) != 4:
        return array
    samples, height, width, channels = shape
    first = (samples, channels, height, width)
    if array.ndim == 2 and array.shape[1] == height * width * channels:
        array = array.reshape(first if channels_first else shape)
    if array.shape == first and (channels_first or array.shape != shape):
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    return array
