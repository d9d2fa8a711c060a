"""The explorable in a real browser: what it shows is what the reference computes, for whatever is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs.explorable import page as pages
from docs.explorable import scene, tables, vector
from tests.docs.browser import Visit, chromium, executable

ON, OFF, ZERO = (246, 239, 223), (35, 34, 43), (176, 88, 143)
"""The light theme's colours of +1, -1 and 0."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    executable()
    path = tmp_path_factory.mktemp("explorable") / "index.html"
    path.write_text(pages.html(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(file: Path) -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Any, file: Path) -> Iterator[Any]:
    visits: list[Visit] = []

    def go(fragment: str = "", **options: Any) -> Visit:
        visits.append(Visit(browser, file, fragment, **options))
        visits[-1].page.wait_for_selector("html[data-ready]")
        return visits[-1]

    yield go
    for one in visits:
        one.page.close()
        assert one.complaints == []
        assert one.requests == [address for address in one.requests if address.startswith(file.as_uri())]
        assert len(one.requests) == 1


def exported(page: Any) -> dict[str, Any]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Export this golden vector").click()
    found: dict[str, Any] = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    return found


def state_of(found: dict[str, Any]) -> scene.State:
    return scene.State(**found["state"])


def picture(page: Any, name: str, height: int, scroll: bool = True) -> Any:
    """A map's colours as drawn, one for each of its pixels: (height, W, 3)."""
    if scroll:
        page.locator(f'[data-map="{name}"]').scroll_into_view_if_needed()
        page.wait_for_timeout(100)
    width, flat = page.evaluate(
        """([name, height]) => {
          const canvas = document.querySelector(`[data-map="${name}"]`), scale = canvas.height / height;
          if (!Number.isInteger(scale)) throw new Error(`${name}: drawn at a scale of ${scale}`);
          const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height), found = [];
          for (let y = scale >> 1; y < canvas.height; y += scale) for (let x = scale >> 1; x < canvas.width; x += scale)
            found.push(...image.data.subarray(4 * (y * canvas.width + x), 4 * (y * canvas.width + x) + 3));
          return [canvas.width / scale, found];
        }""",
        [name, height],
    )
    return np.array(flat, dtype=np.uint8).reshape(height, width, 3)


def test_loads_silently_from_one_file(visit: Any, file: Path) -> None:
    page = visit().page
    assert page.title().startswith("One bit per pixel")
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert file.stat().st_size < 3_000_000
    for name, height in {"one": 151, "window": 151, "sums": 149, "phase": 149}.items():
        assert len(np.unique(picture(page, name, height).reshape(-1, 3), axis=0)) > 1, name


STATES = [
    "",
    "#dots=bayer8&light=0.375&row=3&column=150&filter=authors&gamma=-1.25&beta=0.5&dither=3x3",
    "#dots=d2all&filter=blur&gamma=0.875&dither=3d&zero=-1&cycle=4",
    "#dots=one&light=-0.5625&row=148&column=166&gamma=0&dither=sign&zero=0",
    "#dots=check&filter=edge&beta=1&dither=sign&zero=0",
    "#dots=d3&row=0&column=0&gamma=0&beta=-1.5",
]


@pytest.mark.parametrize("fragment", STATES)
def test_an_address_s_vector_is_the_reference_s(visit: Any, fragment: str) -> None:
    page = visit(fragment).page
    found = exported(page)
    assert list(vector.differences(found)) == []
    assert found["address"] == fragment
    expected = tables.reference(state_of(found))
    assert np.array_equal(vector.photograph(found), scene.photograph())
    shown = np.stack([vector.signs(rows) for rows in found["conv.bits"]], axis=-1)
    assert np.array_equal(shown, expected["conv.bits"][0])


@pytest.mark.parametrize("fragment", STATES[1:4])
def test_pictures_are_drawn_from_the_bits(visit: Any, fragment: str) -> None:
    page = visit(fragment, viewport={"width": 1280, "height": 900}).page
    found = exported(page)
    channel = found["pixel"]["channel"]
    expected = tables.reference(state_of(found))
    for name, bits in (
        ("dots", expected["dots.bits"][0, :, :, 0]),
        ("bits", expected["conv.bits"][0, :, :, channel]),
    ):
        drawn = picture(page, name, bits.shape[0])
        assert drawn.shape[:2] == bits.shape
        same = (drawn == np.array([OFF, ZERO, ON])[bits.astype(int) + 1]).all(axis=2)
        row, column = found["pixel"]["row"], found["pixel"]["column"]
        away = np.ones_like(same)  # but for the frame around the chosen pixel
        away[max(row - 2, 0) : row + 5, max(column - 2, 0) : column + 5] = False
        assert same[away].all()
        assert bits[away].min() < bits[away].max() or fragment == STATES[3]


def test_each_control_changes_what_it_should(visit: Any) -> None:
    page = visit().page
    before = exported(page)

    def changed() -> set[str]:
        nonlocal before
        after = exported(page)
        assert list(vector.differences(after)) == []
        names = {name for name in after["state"] if after["state"][name] != before["state"][name]}
        names |= {name for name in ("row", "column", "channel") if after["pixel"][name] != before["pixel"][name]}
        before = after
        return names

    for slider in ("light", "gamma", "beta"):
        page.locator(f'[data-bind="{slider}"]').first.focus()
        page.keyboard.press("ArrowLeft")
        assert changed() == {slider}
    for group, label, name in (
        ("dots", "designed 2×2", "dots"),
        ("dither", "DeSign 3D, 2×2×4", "dither"),
        ("zero", "−1", "zero"),
        ("filter", "blur", "channel"),
    ):
        page.locator(f'[data-choice="{group}"]').first.get_by_label(label, exact=True).check()
        assert changed() == {name}
    page.locator('[data-number="row"]').fill("11")
    assert changed() == {"row"}
    page.locator('[data-map="bits"]').focus()
    page.keyboard.press("Shift+ArrowRight")
    assert changed() == {"column"}
    assert before["pixel"]["column"] == 77
    page.locator('[data-map="one"]').click(position={"x": 5, "y": 5})
    assert changed() == {"row", "column"}
    page.locator('[data-phase="3"]').click()
    assert before["pixel"]["phase"] != (phase := exported(page)["pixel"]["phase"])
    assert phase == [1, 1]
    page.get_by_role("button", name="Start again").click()
    assert exported(page)["address"] == ""


def test_the_keyboard_reaches_everything(visit: Any) -> None:
    page = visit().page
    expected = (
        page.evaluate(
            "[...document.querySelectorAll('a[href], button, input, canvas[tabindex], pre[tabindex]')]"
            ".filter((node) => node.type !== 'radio').length"
        )
        + page.locator("[data-choice]").count()
    )
    reached = set()
    for _ in range(2 * expected):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "(() => { const node = document.activeElement; "
                "return [...document.querySelectorAll('*')].indexOf(node); })()"
            )
        )
    assert len(reached) >= expected


def test_the_address_follows_and_is_taken_up_again(visit: Any) -> None:
    page = visit("#gamma=-2&cycle=3&rank=15").page
    assert "tap 4 of 9" in page.locator('[data-text="tap"]').inner_text()
    assert page.locator('[data-text="ranking"]').inner_text().startswith("Rank 16 of 351: 1 1 / 3 3")
    page.locator('[data-bind="gamma"]').first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(50)
    fragment = page.evaluate("location.hash")
    assert "gamma=-1.875" in fragment
    assert exported(visit(fragment).page) == exported(page)


def test_what_no_control_can_say_is_ignored(visit: Any) -> None:
    page = visit("#gamma=0.1&row=149&column=-1&dither=%E0%A4%A&nonsense&zero=2&filter=sharp&cycle=9").page
    assert exported(page)["address"] == ""


def test_words_say_what_the_vector_holds(visit: Any) -> None:
    page = visit("#gamma=-1.25&beta=0.5&dither=3x3&row=20&column=31").page
    chosen = exported(page)["pixel"]
    assert chosen["rule"]["direction"] == -1
    rule = page.locator('[data-text="rule"]').inner_text()
    assert rule == f"+1 where a ≤ {chosen['rule']['threshold']:+d}".replace("-", "−").replace("+0", "0")
    assert f"2·{chosen['popcount']} − 9" in page.locator('[data-text="sum-formula"]').inner_text()
    wave = page.locator('[data-text="wave"]').inner_text()
    assert f"{chosen['first_cycle']:,} to {chosen['first_cycle'] + 8:,}" in wave


def test_demonstrations_run_and_stop(visit: Any) -> None:
    page = visit().page
    page.locator('#hardware [data-play="cycle"]').click()
    page.wait_for_timeout(600)
    assert page.evaluate("window.explorable.state().cycle") in (0, 1, 2)
    page.locator('[data-bind="cycle"]').focus()
    page.keyboard.press("End")
    page.wait_for_timeout(600)
    assert page.evaluate("window.explorable.state().cycle") == 8


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_accessible(visit: Any, scheme: str, width: int) -> None:
    page = visit(color_scheme=scheme, viewport={"width": width, "height": 844})
    assert page.violations() == []


def test_fits_a_phone(visit: Any) -> None:
    page = visit("#dither=3x3", viewport={"width": 360, "height": 740}, device_scale_factor=3, has_touch=True).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("width", [1280, 390])
def test_the_contents_lead_to_their_sections(visit: Any, width: int) -> None:
    page = visit(viewport={"width": width, "height": 900}).page
    for link in page.locator(".toc a").all():
        page.evaluate("scrollTo(0, 0)")
        link.click()
        page.wait_for_timeout(150)
        name = link.get_attribute("href")
        top, left_to_scroll = page.evaluate(
            "(name) => [document.querySelector(name).getBoundingClientRect().top, "
            "document.documentElement.scrollHeight - innerHeight - scrollY]",
            name,
        )
        assert 0 <= top < 60 or left_to_scroll < 1, name


def test_what_is_printed_is_the_chosen_state(visit: Any) -> None:
    page = visit(viewport={"width": 1280, "height": 900}).page
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(150)
    page.evaluate("window.explorable.set({ gamma: 4, filter: 3, row: 0, column: 0 })")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    bits = page.evaluate("window.explorable.featureMap(3, 3, window.explorable.state().dither)")
    expected = np.array([OFF, ZERO, ON])[np.reshape(bits, (149, 167)) + 1]
    same = (picture(page, "bits", 149, scroll=False) == expected).all(axis=2)
    assert same[5:, 5:].all()  # but for the frame around the chosen pixel


@pytest.mark.parametrize("width", [1280, 360])
def test_the_folded_rule_stays_within_its_plot(visit: Any, width: int) -> None:
    page = visit(viewport={"width": width, "height": 900}).page
    shown = page.evaluate(
        """() => {
          const found = [], plot = document.querySelector('[data-plot="fold"]');
          for (const gamma of [0, 3, 20, 32]) for (const beta of [0, 4, 8, 12]) {
            window.explorable.set({ gamma, beta });
            dispatchEvent(new Event("beforeprint"));  // draws it wherever it stands
            const outer = plot.getBoundingClientRect();
            for (const part of plot.querySelectorAll("path, .t")) {
              const box = part.getBoundingClientRect();
              found.push([box.left - outer.left, outer.right - box.right, part.textContent]);
            }
          }
          return found;
        }"""
    )
    assert {text[-2:] for _, _, text in shown} >= {"up", "wn"}
    assert [part for part in shown if min(part[0], part[1]) < 0] == []


def test_cells_hold_their_words(visit: Any) -> None:
    page = visit("#light=-1.5", viewport={"width": 360, "height": 740}).page
    cut = "[...document.querySelectorAll('.cells span')].filter((cell) => cell.scrollWidth > cell.clientWidth).length"
    assert "–" in page.locator('[data-cells="fires"]').inner_text()
    assert page.evaluate(cut) == 0


def test_the_theme_can_be_changed(visit: Any) -> None:
    page = visit(color_scheme="light").page
    colour = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(colour)
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(colour) != before
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(colour) == before


def test_reads_without_a_script(browser: Any, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("section h2").count() == 10
    assert "drawn by a script" in page.locator("noscript").inner_text()
    assert "1,296 kernels of 2×2, 351 up to shifts" in page.locator("#which").inner_text()
    assert page.locator(".formula", has_text="a = 2p − 9").count() == 1
    context.close()
