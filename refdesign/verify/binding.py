"""From what a user names to an implementation that is bound to a network.

`package.module:name` and `folder/file.py:name` are Python; a name can be a callable of images, a callable of
(network, images), a factory (a class, or a callable whose first parameter is called `network` and needs no other), or
an object that an `Adapt` makes into one of these: models of frameworks, which nothing here knows.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refdesign.api import Network
from refdesign.errors import RefdesignError
from refdesign.verify.implementation import Implementation, one_line, where_raised
from refdesign.verify.survival import survived

Adapt = Callable[[object, Network], "Implementation | None"]
"""Makes an implementation of an object that is none by itself; None: it does not know it."""


def bind(target: object, network: Network, adapt: Adapt | None = None) -> Implementation:
    """Bind what a user named to a network.

    Args:
        target: one of: a callable of images; a callable of (network, images); a factory, that is a class, or a
            callable whose first parameter is called `network` and that needs no other, which returns a callable of
            images. An engine of `refdesign.frameworks`, or `Network.run`, is asked for all outputs.
        network: the network to bind to.
        adapt: tried first on the target, and on what a factory returns.

    Raises:
        RefdesignError: no callable, or one with other parameters; a factory that fails or returns no callable.

    >>> from refdesign.api import pretrained
    >>> import numpy as np
    >>> digits = pretrained("digits")
    >>> bound = bind(lambda network, images: network.run(images), digits)
    >>> bound(np.zeros((1, 8, 8, 1), np.uint8))["logits"].shape
    (1, 10)
    """
    adapted = None if adapt is None else adapt(target, network)
    if adapted is not None:
        return adapted
    if not callable(target):
        raise RefdesignError(f"implementation: found {type(target).__name__}, expected a callable")
    if inspect.isclass(target):
        return _made(target, network, adapt)
    parameters = _parameters(target) or []
    required = [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind in _POSITIONAL]
    if len(required) == 2:
        return lambda images: target(network, images)
    first = next((p.name for p in parameters if p.kind in _POSITIONAL), None)
    if first == "network" and len(required) < 2:
        return _made(target, network, adapt)
    if len(required) > 2:
        raise RefdesignError(
            f"implementation: found the required parameters {', '.join(required)}, "
            "expected (images), (network, images) or (network)"
        )
    return _asked_for_all(target)


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _parameters(target: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """What it can be called with; None: built-in callables do not say."""
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return None


def _asked_for_all(target: Callable[..., Any]) -> Implementation:
    """An engine of `refdesign.frameworks`, or `Network.run`, gives the logits only unless it is asked for more."""
    if any(p.name == "outputs" and p.default == ("logits",) for p in _parameters(target) or []):
        return lambda images: target(images, outputs="all")
    return target


def _made(factory: Callable[..., Any], network: Network, adapt: Adapt | None) -> Implementation:
    # A class that names nothing that it takes (a module with its own weights) is made as it is.
    known = _parameters(factory)
    alone = inspect.isclass(factory) and known is not None and not any(p.kind in _POSITIONAL for p in known)
    try:
        with survived():
            made = factory() if alone else factory(network)
    except RefdesignError:
        raise
    except (Exception, SystemExit) as error:  # its end is not ours
        raise RefdesignError(f"implementation: its factory raised {where_raised(error)}") from error
    adapted = None if adapt is None else adapt(made, network)
    if adapted is not None:
        return adapted
    if not callable(made):
        raise RefdesignError(f"implementation: its factory returned {type(made).__name__}, expected a callable")
    return _asked_for_all(made)


def load_target(text: str, folder: Path | None = None) -> object:
    """Import what `package.module:name` or `path/to/file.py:name` names, with the user's folder on the path.

    The folder comes last on the path, so that no file in it shadows an installed package; a file's own folder is
    put beside it.

    Raises:
        RefdesignError: not of that form, or it cannot be imported, or has no such name.

    >>> load_target("refdesign.api:pretrained").__name__
    'pretrained'
    >>> load_target("no_such:f")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: --impl no_such:f: cannot be imported: ModuleNotFoundError: ...
    """
    module_name, colon, path = text.rpartition(":")
    if not (module_name and colon and path):
        raise RefdesignError(f"--impl: found {text!r}, expected package.module:name or path/to/file.py:name")
    file = Path(module_name) if folder is None else folder / module_name
    is_file = module_name.endswith(".py")
    if is_file and not file.is_file():
        raise RefdesignError(f"--impl {text}: found no file {module_name}")
    _append_to_path(file.resolve().parent if is_file else Path.cwd() if folder is None else folder)
    try:
        with survived():
            target: object = _import_file(file) if is_file else importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a script's last line may well be sys.exit(0)
        why = f"{type(error).__name__}: {one_line(error)}"
        raise RefdesignError(f"--impl {text}: cannot be imported: {why}") from error
    for part in path.split("."):
        if not hasattr(target, part):
            raise RefdesignError(f"--impl {text}: found no {part!r} in {getattr(target, '__name__', module_name)}")
        target = getattr(target, part)
    return target


def _append_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:  # it stays there: an implementation may import more when it is called
        sys.path.append(str(folder))


def _import_file(file: Path) -> object:
    """The file as a module under its own name, or a marked one where that name is taken by another."""
    name = file.stem if file.stem not in sys.modules else f"implementation under test: {file.stem}"
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
