import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo
    import numpy as np

    import refdesign as rd

    return mo, np, rd


@app.cell
def _(mo):
    mo.md(r"""
    # Packed bits: sixty-four products at once

    A ±1 is one bit, and 64 of them are a word. Element c is bit c mod 64 of word c div 64; a 1 bit is +1.
    """)
    return


@app.cell
def _(np, rd):
    random = np.random.default_rng(1)
    x, w = (2 * random.integers(0, 2, (2, 70)) - 1).astype(np.int8)
    a, b = rd.pack(x), rd.pack(w)
    [f"{word:064b}" for word in a.words.tolist()]
    return a, b, random, w, x


@app.cell
def _(mo):
    mo.md(r"""
    Seventy elements need two words; the second has 6 elements and 58 bits that mean nothing. They are kept 0.

    A product is +1 where the bits agree, so the dot product is twice the popcount of the XNOR, less 70. Or, counting
    disagreements: 70 − 2·popcount(x xor w).
    """)
    return


@app.cell
def _(a, b, np, w, x):
    disagree = int(np.bitwise_count(a.words ^ b.words).sum())
    assert 70 - 2 * disagree == int(x.astype(int) @ w.astype(int))
    plain = int(x.astype(int) @ w.astype(int))
    {"disagree": disagree, "70 - 2*disagree": 70 - 2 * disagree, "plain dot product": plain}
    return


@app.cell
def _(mo):
    mo.md(r"""
    **An experiment with a surprise.** XNOR is NOT XOR; so count agreements instead, 2p − 70. It should be the same.
    """)
    return


@app.cell
def _(a, b, np, w, x):
    agree = int(np.bitwise_count(~(a.words ^ b.words)).sum())
    wrong = 2 * agree - 70
    assert wrong != int(x.astype(int) @ w.astype(int))
    {"agree": agree, "2*agree - 70": wrong, "off by": wrong - int(x.astype(int) @ w.astype(int))}
    return


@app.cell
def _(mo):
    mo.md(r"""
    Off by 116, twice 58: the unused bits are 0 in both words, and two zeros *agree*. With 64 or 128 channels nothing
    would have shown. That is why this project's tests use 63, 65, 70 and 130.

    **Zero padding.** A padded position counts for nothing: neither +1 nor −1. So it needs a mask, and v, the number of
    positions that count, takes the place of 9.
    """)
    return


@app.cell
def _(np, random, rd):
    image = (2 * random.integers(0, 2, (1, 5, 7, 1)) - 1).astype(np.int8)
    filters = (2 * random.integers(0, 2, (1, 3, 3, 1)) - 1).astype(np.int8)
    padded = rd.binary_conv2d(rd.pack(image), rd.pack(filters), padding=1)
    inside = rd.binary_conv2d(rd.pack(image), rd.pack(filters))
    padded[0, :, :, 0]
    return inside, padded


@app.cell
def _(inside, np, padded):
    assert np.array_equal(padded[:, 1:-1, 1:-1], inside)
    parity = padded[0, :, :, 0] % 2
    assert parity[1:-1, 1:-1].all()
    assert not parity[0, 1:-1].any()
    parity
    return


@app.cell
def _(mo):
    mo.md(r"""
    Inside, nine products make odd sums. On the edges six count, and sums are *even*; in the corners four do. A fold
    that believes sums to be odd is right inside and wrong on the border. Padding with +1 or −1, as other frameworks do,
    keeps the parity, and gives other bits.
    """)
    return


if __name__ == "__main__":
    app.run()
