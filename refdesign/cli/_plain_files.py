"""What `refdesign info` shows of files that are no networks: threshold kernels, arrays by name, MATLAB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.markup import escape

from refdesign import api
from refdesign.cli import _common as common
from refdesign.cli import _importing as importing
from refdesign.cli import _kernel_files as kernel_files
from refdesign.design import published_names, read_variables
from refdesign.design.mat import Variable
from refdesign.errors import RefdesignError
from refdesign.formats import foreign, keras_file, native, npz
from refdesign.formats.files import naming, read_bytes
from refdesign.formats.modules import gather
from refdesign.formats.tensors import StoredTensor, TensorFile

_LARGEST_ARRAYS = 1 << 28
"""Bytes of all arrays of an archive together."""


def shown(source: str, wanted: dict[str, Any], as_json: bool) -> bool:
    """Show a file that is no network; False where it is one, or is to be made one.

    Raises:
        RefdesignError: the file cannot be read.
    """
    if source in api.pretrained_names():
        return False
    suffix = Path(source).suffix.lower()
    if source in published_names() or (suffix in _READERS and Path(source).exists()):
        if wanted:
            raise RefdesignError(f"{source}: found {min(wanted)!r} to read it with, but it is no network")
        _show(_READERS.get(suffix, _kernel)(source), as_json)
        return True
    if "architecture" in wanted or "layer_map" in wanted or not Path(source).exists():
        return False
    tensors = _tensors(source, suffix)
    if tensors is None:
        return False
    _show(_listed(source, tensors), as_json)
    return True


def _tensors(source: str, suffix: str) -> TensorFile | None:
    """The arrays of a file that holds nothing else; None where it says what its layers are."""
    if suffix in foreign.TORCH_ENDINGS:
        return foreign.tensor_file(source)
    if suffix in foreign.KERAS_ENDINGS:
        file = keras_file.read(source)
        return file.tensor_file() if file.model is None else None
    if suffix == ".safetensors" and not native.is_native(source):
        return foreign.tensor_file(source)
    return None


def _kernel(source: str) -> dict[str, Any]:
    """A threshold kernel, published or from a file."""
    return kernel_files.described(source, importing.kernel(source))


def _numpy(source: str) -> dict[str, Any]:
    """A threshold kernel, or the arrays of another archive, such as those for firmware."""
    with naming(source):
        arrays = npz.from_bytes(read_bytes(source), _LARGEST_ARRAYS)
    if "values" in arrays:
        return _kernel(source)
    return {
        "file": source,
        "format": "NumPy's arrays",
        "arrays": [
            {"name": name, "dtype": array.dtype.name, "shape": list(array.shape)}
            | ({} if array.dtype.kind == "u" else _range(array))
            for name, array in arrays.items()
        ],
        "notes": ["arrays alone, as for firmware: no network is read from .npz"],
    }


def _matlab(source: str) -> dict[str, Any]:
    """A threshold kernel, or the variables of another file."""
    variables = read_variables(source)
    if [variable.name for variable in variables] == ["kernel"]:
        return _kernel(source)
    return {
        "file": source,
        "format": "a MATLAB file",
        "arrays": [
            {"name": variable.name, "dtype": variable.kind, "shape": list(variable.shape)}
            | ({} if variable.values is None else _range(variable.values))
            for variable in variables
        ],
        "notes": [note for variable in variables for note in _released_scores(variable)],
    }


_READERS = {".mat": _matlab, ".json": _kernel, ".npz": _numpy}

RELEASED_ORDER = (1, 3, 5, 7, 9, 0)
"""The order in which the authors' `threshold_metrics.mat` counts the levels of a kernel's cells."""


def _released_scores(variable: Variable) -> list[str]:
    """What the authors' own scores of all 2x2 kernels say; row 3 is the one that their choice rests on."""
    kernels = len(RELEASED_ORDER) ** 4
    if variable.name != "metric_means" or variable.values is None or variable.shape != (5, kernels):
        return []
    at = np.unravel_index(int(np.nan_to_num(variable.values[3], nan=-np.inf).argmax()), (len(RELEASED_ORDER),) * 4)
    best = np.array([RELEASED_ORDER[int(place)] for place in at]).reshape(2, 2, order="F")
    return [
        "metric_means: the authors' scores of all 2x2 kernels over the levels 0, 1, 3, 5, 7, 9, a column each; best by "
        f"row 3 (total variation) is {best.tolist()}"
    ]


def _range(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    return {"low": float(finite.min()), "high": float(finite.max())} if finite.size else {}


def _listed(source: str, file: TensorFile) -> dict[str, Any]:
    modules = gather(file.tensors)
    weights = {product.weights for product in modules.products}
    arrays = [
        {"name": name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
        | (_distance(tensor) if name in weights else {})
        for name, tensor in file.tensors.items()
    ]
    incomplete = [norm.name for norm in modules.norms if not norm.complete]
    notes = list(file.notes)
    if incomplete:
        notes.append(f"batch norms without running mean and variance: {', '.join(incomplete[:8])}")
    notes.append("arrays by name: --model or --map says which layers they are")
    return {"file": source, "format": file.format, "arrays": arrays, "notes": notes}


def _distance(tensor: StoredTensor) -> dict[str, Any]:
    """How far weights are from ±1."""
    size = np.abs(tensor.load().astype(np.float64))
    if not size.size or not np.isfinite(size).all():
        return {}
    return {"low": float(size.min()), "high": float(size.max()), "from_one": float(np.abs(size - 1).mean())}


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        common.print_json(found)
    elif "kernel" in found:
        _show_kernel(found)
    else:
        _show_arrays(found)


def _show_kernel(found: dict[str, Any]) -> None:
    click.echo(f"{found['kernel']}: {kernel_files.in_words(found)}")
    values = np.array(found["values"])
    levels = None if found["levels"] is None else np.array(found["levels"])
    for part in range(values.shape[2]):
        click.echo(f"slice {part}:")
        for row in range(values.shape[0]):
            cells = [f"{value:.6g}" for value in values[row, :, part]]
            click.echo("  " + "  ".join(f"{cell:>10}" for cell in cells) + _level_text(levels, row, part))


def _level_text(levels: np.ndarray[Any, Any] | None, row: int, part: int) -> str:
    return "" if levels is None else "    levels " + " ".join(str(level) for level in levels[row, :, part])


def _show_arrays(found: dict[str, Any]) -> None:
    console = common.console()
    console.print(escape(f"{found['file']} ({found['format']})"))
    made = common.table("array", "type", "shape", "values", "mean distance from ±1", left=("array", "type"))
    for entry in found["arrays"]:
        sizes = "|w| " if "from_one" in entry else ""
        spread = f"{sizes}{entry['low']:.3g}..{entry['high']:.3g}" if "low" in entry else ""
        made.add_row(
            common.cell(entry["name"]), common.cell(entry["dtype"]), common.shape_text(entry["shape"]), spread,
            f"{entry['from_one']:.3g}" if "from_one" in entry else "",
        )  # fmt: skip
    console.print(made)
    for note in found["notes"]:
        console.print(common.cell(note))
