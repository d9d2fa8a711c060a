"""Test vectors: a folder that is usable with no Python at all.

`README.md` says what every array is and how the layers follow from it.
`manifest.json` (its schema beside it) names every file with its SHA-256, shape, type and layout, the conventions,
the seed, and for every case what it is and which classes of bugs it catches. Every array is an `.npy`, and a
`$readmemh` hex file: bits in 64-bit words, channel c in bit c mod 64 of word c div 64, a 1 bit as `bit_one` says;
all other numbers in one word each, two's complement or float32.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import refdesign
from refdesign.bits import PackedBits, unpack
from refdesign.errors import RefdesignError
from refdesign.formats import atomic
from refdesign.formats.files import naming, read_bytes
from refdesign.network import NetworkData, Stage, describe
from refdesign.ops.batch_norm import scale_and_shift
from refdesign.paths import thresholds_of
from refdesign.run import check_images, run, run_layer
from refdesign.verify.directed import layer_cases
from refdesign.verify.doors.words import WordFormat
from refdesign.verify.fresh import directed_images, fresh_images
from refdesign.verify.implementation import comparable_outputs, one_line
from refdesign.verify.vectors_page import page

FORMAT = "refdesign.vectors/1"
"""What the field `format` of a manifest holds."""

_CANDIDATES = 256
_NEAR = 12  # images chosen because they put accumulators on thresholds
_CATCHES = {
    "all": ("polarity", "width", "padding", "constant channels"),
    "corner": ("padding", "layout", "geometry"),
    "edge": ("padding", "layout", "geometry"),
    "centre": ("layout", "geometry"),
    "chequerboard": ("phase", "pool", "layout"),
    "rows": ("phase", "layout", "pool"),
    "columns": ("phase", "layout", "pool"),
    "ramp": ("layout", "width", "input"),
    "first": ("input", "layout"),
    "last": ("input", "layout"),
}


class _Folder:
    """The folder as it is written: every file with its digest."""

    def __init__(self, path: Path, conventions: Any) -> None:
        self.path = path
        self.conventions = conventions
        self.files: list[dict[str, Any]] = []

    def add(self, name: str, array: NDArray[Any], axes: str, *, kind: str | None = None) -> None:
        """Write an array as `.npy` and as hex."""
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=False)
        about = {"array": name, "dtype": array.dtype.name, "shape": list(array.shape), "axes": axes}
        self.write(f"{name}.npy", stream.getvalue(), {**about, "encoding": "npy"})
        packing = self._packing(array, kind)
        text = "\n".join(f"{word:0{-(-packing.word_bits // 4)}x}" for word in packing.encode(array))
        words = {
            "word_bits": packing.word_bits, "element_bits": packing.element_bits, "kind": packing.kind,
            "bit_order": packing.bit_order, "word_order": packing.word_order, "bit_one": packing.bit_one,
            "words_in_a_row": packing.words(array.shape[-1]),
        }  # fmt: skip
        self.write(f"{name}.hex", (text + "\n").encode(), {**about, "encoding": "readmemh", **words})

    def _packing(self, array: NDArray[Any], kind: str | None) -> WordFormat:
        if kind == "bits":
            c = self.conventions
            return WordFormat(bit_order=c.bit_order, word_order=c.word_order, bit_one=c.bit_one)
        width = array.dtype.itemsize * 8
        named = {"f": "float32", "u": "unsigned"}.get(array.dtype.kind, "signed")
        return WordFormat(word_bits=width, element_bits=width, kind=named)

    def write(self, name: str, content: bytes, about: dict[str, Any]) -> None:
        """Write a file and note it."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(target, content)
        digest = hashlib.sha256(content).hexdigest()
        self.files.append({"path": name, "bytes": len(content), "sha256": digest, **about})


def write_vectors(network: NetworkData, path: Path, *, count: int = 64, seed: int = 0) -> dict[str, Any]:
    """Write a folder of vectors.

    Args:
        network: the network.
        path: the folder, which must not exist or be empty.
        count: random images, after the directed ones.
        seed: of everything random.

    Returns:
        The manifest.

    Raises:
        RefdesignError: the folder is not empty or cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RefdesignError(f"{path}: found something there, expected no folder or an empty one")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefdesignError(f"{path}: cannot be made: {error.strerror or error}") from error
    random = np.random.default_rng(seed)
    images, cases = _images(network, random, count)
    folder = _Folder(path, network.conventions)
    folder.add("images", images, "n h w c")
    for name, array in run(network, images, outputs=comparable_outputs(network)).items():
        axes = "n h w c" if array.ndim == 4 else "n c"
        folder.add(f"outputs/{name}", array, axes, kind="bits" if name.endswith(".bits") and array.all() else None)
    _parameters(network, folder)
    layers = _layer_cases(network, folder, random)
    schema = resources.files("refdesign.verify") / "vectors.schema.json"
    folder.write("manifest.schema.json", schema.read_bytes(), {"encoding": "json"})
    folder.write("README.md", page(network, folder.files).encode(), {"encoding": "text"})
    manifest = {
        "format": FORMAT,
        "refdesign": refdesign.__version__,
        "platform": f"{platform.machine()}, numpy {np.__version__}",
        "network": network.name,
        "input_shape": list(network.input_shape),
        "conventions": network.conventions.to_dict(),
        "seed": seed,
        "layers": [
            {**describe(layer), "name": layer.name, "input": list(network.shapes[layer.name].input),
             "accumulator": list(network.shapes[layer.name].accumulator),
             "output": list(network.shapes[layer.name].output)}
            for layer in network.layers
        ],
        "cases": cases,
        "layer_cases": layers,
        "files": folder.files,
    }  # fmt: skip
    atomic.write_bytes(path / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())
    return manifest


def _images(
    network: NetworkData, random: np.random.Generator, count: int
) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """Directed images, then those that put most accumulators on their thresholds, then random ones."""
    directed, names = directed_images(network)
    cases: list[dict[str, Any]] = [{"name": name, "catches": list(_CATCHES[name.split()[0]])} for name in names]
    candidates = fresh_images(network, random, _CANDIDATES)
    near, says = _near_thresholds(network, candidates)
    for text in says:
        cases.append({"name": text, "catches": ["threshold", "sign", "direction", "arithmetic", "dither"]})
    images = np.concatenate([directed, candidates[near], fresh_images(network, random, count)])
    cases += [{"name": f"random {number}", "catches": ["any"]} for number in range(count)]
    return images, [{"case": number, **case} for number, case in enumerate(cases)]


def _near_thresholds(network: NetworkData, images: NDArray[np.uint8]) -> tuple[list[int], list[str]]:
    """Images chosen one by one, each for the most thresholds that it meets and none before it has met."""
    thresholds = thresholds_of(network)
    met = []
    for name, folded in thresholds.items():
        outputs = (f"{name}.pooled", f"{name}.accumulator")
        wanted = next(output for output in outputs if output in network.output_names)
        a = run(network, images, outputs=wanted)[wanted].reshape(len(images), -1, folded.shape[2])
        levels = folded.threshold.reshape(-1, folded.shape[2])
        step = folded.certificate.domain.step
        for offset in (0, step, -step):
            hits = [(a == level + offset).any(axis=1) for level in levels]
            met.append(np.concatenate(hits, axis=1))
    if not met:
        return [], []
    open_ = np.concatenate(met, axis=1)
    chosen, says = [], []
    for _ in range(_NEAR):
        gains = open_.sum(axis=1)
        best = int(gains.argmax())
        if not gains[best]:
            break
        chosen.append(best)
        says.append(f"meets {int(gains[best])} further thresholds, or the steps beside them")
        open_ &= ~open_[best]
    return chosen, says


def _parameters(network: NetworkData, folder: _Folder) -> None:
    for layer in network.layers:
        weights = getattr(layer, "weights", None)
        axes = "o h w i" if weights is not None and len(getattr(weights, "shape", ())) == 4 else "o i"
        if isinstance(weights, PackedBits):
            folder.add(f"parameters/{layer.name}.weights", unpack(weights), axes, kind="bits")
        elif isinstance(weights, np.ndarray):
            folder.add(f"parameters/{layer.name}.weights", weights, axes)
        elif isinstance(weights, tuple):
            for number, basis in enumerate(weights):
                folder.add(f"parameters/{layer.name}.weights{number}", unpack(basis), "o h w i", kind="bits")
    _last_batch_norm(network, folder)
    for name, folded in thresholds_of(network).items():
        folder.add(f"parameters/{name}.threshold", folded.threshold, "m n c")
        folder.add(f"parameters/{name}.direction", folded.direction, "m n c")
        folder.add(f"parameters/{name}.constant", folded.constant, "m n c")


def _last_batch_norm(network: NetworkData, folder: _Folder) -> None:
    """The last layer does not fold: its batch norm, and k and c (y = k*a + c) where the arithmetic has them."""
    last = network.layers[-1]
    if not isinstance(last, Stage) or last.batch_norm is None:
        return
    bn, arithmetic = last.batch_norm, network.conventions.arithmetic
    values = {name: getattr(bn, name) for name in ("gamma", "beta", "mean", "variance", "alpha")}
    values["epsilon"] = np.array([bn.epsilon], dtype=np.float32)
    if arithmetic in ("torch", "onnxruntime", "keras"):
        values["k"], values["c"] = scale_and_shift(bn, arithmetic)
    for name, value in values.items():
        if value is not None:
            folder.add(f"parameters/{last.name}.{name}", value, "c")


def _layer_cases(network: NetworkData, folder: _Folder, random: np.random.Generator) -> dict[str, list[dict[str, Any]]]:
    thresholds = thresholds_of(network)
    made: dict[str, list[dict[str, Any]]] = {}
    for layer in network.layers:
        # A layer with a shortcut needs more than its input bits.
        if not isinstance(layer, Stage) or layer.shortcut is not None:
            continue
        cases = layer_cases(network, layer, thresholds.get(layer.name), random)
        if not cases:
            continue
        inputs = np.stack([case.inputs for case in cases])
        folder.add(f"layers/{layer.name}.inputs", inputs, "n h w c" if inputs.ndim == 4 else "n c", kind="bits")
        for name, array in run_layer(network, layer, inputs).items():
            axes = "n h w c" if array.ndim == 4 else "n c"
            part = "logits" if name == "logits" else name.rpartition(".")[2]
            bits = "bits" if part == "bits" and array.all() else None
            folder.add(f"layers/{layer.name}.{part}", array, axes, kind=bits)
        made[layer.name] = [
            {"case": number, "name": case.name, "catches": list(case.catches)} for number, case in enumerate(cases)
        ]
    return made


def read_images(path: Path, network: NetworkData) -> NDArray[np.uint8]:
    """The images of a folder of vectors, once its files' digests were checked.

    Raises:
        RefdesignError: no such folder, a manifest of another format, other conventions or another shape of the
            images than the network's, or a file that was changed.
    """
    with naming(path / "manifest.json"):
        text = read_bytes(path / "manifest.json")
    with naming(path / "images.npy"):
        content = read_bytes(path / "images.npy")
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefdesignError(f"{path / 'manifest.json'}: cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise RefdesignError(f"{path}: found the format {found!r}, expected {FORMAT!r}")
    if manifest.get("conventions") != network.conventions.to_dict():
        raise RefdesignError(f"{path}: found other conventions than those of {network.name}")
    files = manifest.get("files")
    entries = [entry for entry in files if isinstance(entry, dict)] if isinstance(files, list) else []
    digests = [entry.get("sha256") for entry in entries if entry.get("path") == "images.npy"]
    if digests != [hashlib.sha256(content).hexdigest()]:
        raise RefdesignError(f"{path / 'images.npy'}: found another SHA-256 than the manifest's")
    try:
        images: NDArray[np.uint8] = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # damaged headers raise almost anything
        raise RefdesignError(f"{path / 'images.npy'}: cannot be read: {one_line(error)}") from error
    check_images(network, images)
    return images
