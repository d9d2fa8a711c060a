"""A verification as one HTML file that needs nothing else."""

from __future__ import annotations

from importlib import resources
from typing import Any

from refdesign.errors import missing_extra


def check_installed() -> None:
    """Refuse to write a page without Jinja2, before anything is compared.

    Raises:
        MissingExtra: Jinja2 is not installed.
    """
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise missing_extra("verify", "jinja2") from error


def to_html(report: dict[str, Any]) -> str:
    """A report (`data.to_dict`) as one self-contained HTML page with the difference maps.

    Raises:
        MissingExtra: Jinja2 is not installed.
    """
    check_installed()
    import jinja2

    source = (resources.files("refdesign.verify.reports") / "report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page: str = environment.from_string(source).render(report=report, shade=_shade, rows=_channel_rows)
    return page


def _shade(value: int, most: int) -> str:
    """A cell's colour: white where nothing differs, then from light to dark red."""
    if not value:
        return "#ffffff"
    part = value / max(most, 1)
    return f"#{round(255 - 75 * part):02x}{round(215 - 195 * part):02x}{round(205 - 185 * part):02x}"


def _channel_rows(counts: list[int], width: int = 64) -> list[list[int]]:
    """Channels in rows of a word."""
    return [counts[start : start + width] for start in range(0, len(counts), width)]
