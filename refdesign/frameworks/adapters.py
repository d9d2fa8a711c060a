"""Models of frameworks as implementations under test: who adapts what, found without importing a framework.

A model is recognised by the names of its class and of the classes above it, so that nothing is imported that the
user's own code has not imported already; the adapter proper is `refdesign.frameworks.<name>.adapter`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refdesign.api import Network
from refdesign.errors import RefdesignError, missing_extra
from refdesign.frameworks.adapting import Adapted, Model
from refdesign.verify.doors.mapping import Map, read_map

CLASSES: Mapping[tuple[str, str], str] = {
    ("torch", "Module"): "torch",
    ("torch", "ExportedProgram"): "torch",
    ("keras", "Model"): "keras",
    ("keras", "Layer"): "keras",
    ("onnxruntime", "InferenceSession"): "onnxruntime",
    ("onnx", "ModelProto"): "onnxruntime",
    ("jaxlib", "PjitFunction"): "jax",
    ("jax", "Compiled"): "jax",
}
"""Who adapts an object: by the package and the name of a class that it is an instance of."""

FILES: Mapping[str, str] = {".onnx": "onnxruntime", ".keras": "keras", ".pt2": "torch"}
"""Who reads a model's file: by its ending."""

EXTRAS: Mapping[str, tuple[str, str]] = {
    "torch": ("torch", "torch"),
    "keras": ("keras", "keras"),
    "onnxruntime": ("onnx", "onnxruntime"),
    "jax": ("jax", "jax"),
}
"""The extra that brings an adapter's framework, and the package that it imports."""


def framework_of(target: object) -> str | None:
    """Whose model an object is; None: no framework's.

    >>> framework_of(len) is None
    True
    """
    for cls in type(target).__mro__:
        name = CLASSES.get((cls.__module__.partition(".")[0], cls.__name__))
        if name is not None:
            return name
    return None


def adapt(target: object, network: Network, mapping: Map | None = None) -> Adapted | None:
    """A framework's model as an implementation of a network.

    Args:
        target: a PyTorch module, a Keras model, a compiled JAX function, an ONNX Runtime session, or anything else.
        network: the network that it implements.
        mapping: where outputs are found inside it, and how it wants its images (`refdesign.verify.doors.mapping`);
            None: an empty map.

    Returns:
        The implementation; None where the object is no such model.

    Raises:
        RefdesignError: the map names a place that the model has not.

    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> adapt(digits.run, digits) is None
    True
    """
    framework = framework_of(target)
    if framework is None:
        return None
    mapping = read_map(None, network) if mapping is None else mapping
    model: Model = _adapter(framework).model(target, network, mapping)
    return Adapted(model, network, mapping)


def is_model_file(text: str) -> bool:
    """Whether this names a model's file, not something in Python.

    >>> is_model_file("net.onnx"), is_model_file("port:forward")
    (True, False)
    """
    return Path(text).suffix in FILES


def read_model(path: Path) -> object:
    """The model in a file, as its framework gives it.

    Raises:
        RefdesignError: no such file, or one that its framework cannot read.
        MissingExtra: the framework is not installed.

    >>> read_model(Path("nowhere.onnx"))
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: nowhere.onnx: found no such file
    """
    if not path.is_file():
        raise RefdesignError(f"{path}: found no such file")
    adapter = _adapter(FILES[path.suffix])
    try:
        found: object = adapter.read(path)
    except RefdesignError:
        raise
    except Exception as error:  # whatever a framework raises on a damaged file
        reason = " ".join(str(error).split())[:300]
        raise RefdesignError(f"{path}: cannot be read: {type(error).__name__}: {reason}") from error
    return found


def _adapter(framework: str) -> Any:
    try:
        return importlib.import_module(f"refdesign.frameworks.{framework}.adapter")
    except RefdesignError:
        raise
    except ImportError as error:
        extra, package = EXTRAS[framework]
        raise missing_extra(extra, getattr(error, "name", None) or package) from error
