"""Griffe's extension that rewrites docstrings before they are parsed; MkDocs loads it by this file's name."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Object

from docs.generator.examples import markdown


class Examples(Extension):
    """Rewrites each docstring."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite one object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
