"""Configurations: from plain data, with errors that name the field; identities; presets; kernels by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refdesign.design import published, write_mat
from refdesign.errors import RefdesignError
from refdesign.training.configuration import Configuration, configuration_from
from refdesign.training.kernels import activation_kernel
from refdesign.training.presets import preset, presets
from refdesign.training.recipe import Recipe


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"modle": "binarynet"}, "run.toml: found the field 'modle' (did you mean 'model'?), expected some of dataset"),
        ({"xyzzy": 1}, "run.toml: found the field 'xyzzy', expected some of dataset"),
        ({"model": "lenet"}, "model: found 'lenet', expected one of binarynet"),
        ({"dataset": "mnist"}, "dataset: found 'mnist', expected one of digits"),
        ({"binariser": "ternary"}, "binariser: found 'ternary', expected one of sign, recu"),
        ({"estimator": "cubic"}, "estimator: found 'cubic'"),
        ({"seed": -1}, "seed: found -1, expected at least 0"),
        ({"seed": 2**63}, "seed: found 9223372036854775808, expected less than"),
        ({"kernel_scale": float("nan")}, "kernel_scale: found nan, expected a finite number"),
        (
            {"recipe": {"final_learning_rate": 0.5}},
            "final_learning_rate: found 0.5, expected at most learning_rate, 0.005",
        ),
        ({"seed": True}, "run.toml, seed: found True, expected int"),
        ({"width": "half"}, "run.toml, width: found 'half', expected float"),
        ({"batch_norm_scale": 1}, "run.toml, batch_norm_scale: found 1, expected bool"),
        ({"recipe": 3}, "run.toml, recipe: found 3, expected a table"),
        ({"recipe": {"epocs": 3}}, "run.toml, recipe: found the field 'epocs' (did you mean 'epochs'?), expected some"),
        ({"recipe": {"warmup": 4, "epochs": 4}}, "recipe, warmup: found 4 of 4 epochs"),
        ({"recipe": {"tau_end": 1.0}}, "recipe, tau_start: found 0.85 to 1.0"),
        ({"recipe": {"optimiser": "lion"}}, "recipe, optimiser: found 'lion', expected one of adam, sgd"),
        ({"recipe": {"learning_rate": float("inf")}}, "recipe, learning_rate: found inf"),
        ({"recipe": {"momentum": float("nan")}}, "recipe, momentum: found nan"),
    ],
)
def test_a_wrong_field_is_named(plain: dict[str, object], message: str) -> None:
    with pytest.raises(RefdesignError) as raised:
        configuration_from(plain, "run.toml")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_configuration_survives_json() -> None:
    made = Configuration(model="resnet20", width=0.5, activation="3d", recipe=Recipe(epochs=3, flip=True), seed=7)
    assert configuration_from(json.loads(json.dumps(made.plain())), "here") == made


def test_an_identity_knows_every_field_that_is_chosen_and_no_default() -> None:
    plain = Configuration().identity()
    others = [
        Configuration(seed=1), Configuration(activation="2d"), Configuration(width=0.5), Configuration(limit=9),
        Configuration(recipe=Recipe(epochs=61)), Configuration(binariser="xnor"), Configuration(model="resnet20"),
        Configuration(dithered=1), Configuration(batch_norm_scale=False), Configuration(kernel_centred=True),
    ]  # fmt: skip
    assert len({plain, *(other.identity() for other in others)}) == len(others) + 1
    assert Configuration(binariser="sign", estimator="clipped").identity() == plain
    # Results that were written with this identity stay what they are.
    assert Configuration(seed=3, activation="2d").identity() == "cb9f3b5a21a55d81"


def test_presets_are_configurations() -> None:
    for name in presets():
        configuration_from(preset(name), name)
        assert presets()[name]["description"]
    assert configuration_from(preset("released-recu"), "").recipe.tau(0) == 0.85
    with pytest.raises(RefdesignError, match="preset: found 'x', expected one of digits"):
        preset("x")


def test_kernels_by_name_by_file_and_inline(tmp_path: Path) -> None:
    values = [[0.5, 1.25, 0.75]]
    write_mat(tmp_path / "k.mat", values)
    (tmp_path / "k.json").write_text(json.dumps({"values": values}))
    np.savez(tmp_path / "k.npz", values=np.array(values))
    for name in (str(tmp_path / "k.mat"), str(tmp_path / "k.json"), str(tmp_path / "k.npz"), "[[0.5, 1.25, 0.75]]"):
        kernel = activation_kernel(name, seed=0)
        assert kernel is not None
        assert kernel.values[:, :, 0].tolist() == values
    for name in ("2d", "2x2_v1", "threshold_2x2_v1"):
        named = activation_kernel(name, seed=0)
        assert named is not None
        assert np.array_equal(named.values, published("threshold_2x2_v1").values)


def test_a_random_kernel_is_the_seeds() -> None:
    first, again, other = (activation_kernel("random", seed=seed) for seed in (1, 1, 2))
    assert first is not None
    assert again is not None
    assert other is not None
    assert np.array_equal(first.values, again.values)
    assert not np.array_equal(first.values, other.values)
    assert first.shape == (2, 2, 1)


def test_a_kernel_scaled_and_centred() -> None:
    kernel = activation_kernel("[[1.0, 2.0], [3.0, 6.0]]", seed=0, scale=0.5, centred=True)
    assert kernel is not None
    assert kernel.values.flatten().tolist() == [-1.0, -0.5, 0.0, 1.5]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.json", None, "cannot be read"),
        ("k.json", "{", "found no JSON"),
        ("k.json", "[1, 2]", "found no object"),
        ("k.json", '{"values": "a"}', "values: found"),
        ("k.json", '{"values": [1, 2]}', "k.json: threshold kernel, values: found shape"),
        ("k.npz", "PK", "found no zip archive"),
        ("k.mat", "MATLAB", "k.mat"),
    ],
)
def test_a_file_that_is_no_kernel_is_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(RefdesignError) as raised:
        activation_kernel(str(path), seed=0)
    assert message in str(raised.value)
    assert name in str(raised.value)


@pytest.mark.parametrize("name", ["4d", "[[1, 2], [3]]", "[1, 2", '["a"]'])
def test_an_activation_that_is_none_is_named(name: str) -> None:
    with pytest.raises(RefdesignError):
        activation_kernel(name, seed=0)
