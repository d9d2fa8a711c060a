"""Every model with every binariser: built, trained a step, exported, and equal to its golden network bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from refdesign.errors import RefdesignError
from refdesign.frameworks.torch import to_network
from refdesign.frameworks.torch.binarisers import ReCU
from refdesign.frameworks.torch.design import DeSign
from refdesign.training.architectures import build
from refdesign.training.configuration import BINARISERS, MODELS, Configuration
from refdesign.training.exactness import compare

SHAPE = (16, 24, 3)


def trained_a_little(configuration: Configuration) -> nn.Module:
    torch.manual_seed(5)
    module = build(configuration, SHAPE, 7)
    optimiser = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.05)
    module.train()
    for _ in range(2):
        images = torch.randint(0, 256, (13, 3, *SHAPE[:2]), dtype=torch.uint8)
        loss = torch.nn.functional.cross_entropy(module(images), torch.randint(0, 7, (13,)))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    return module.eval()


def images(count: int = 9) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(3).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


@pytest.mark.parametrize("binariser", BINARISERS)
@pytest.mark.parametrize("model", MODELS)
def test_an_exported_network_is_its_module_bit_for_bit(model: str, binariser: str) -> None:
    width = {"binarynet": 1 / 16, "vgg_small": 1 / 16, "resnet18": 1 / 8, "resnet20": 1 / 2}[model]
    activation = {"sign": "2d", "recu": "3d", "xnor": "random", "dorefa": "sign", "abc": "2d"}[binariser]
    module = trained_a_little(
        Configuration(dataset="cifar10", model=model, width=width, activation=activation, binariser=binariser)
    )
    network = to_network(module, name="small", input_shape=SHAPE)
    agreement = compare(module, network, images())
    assert agreement.images == 9
    assert agreement.compared > 9 * 1000
    assert str(agreement).endswith("0 values and 0 predictions differ")


def activations(module: nn.Module) -> list[DeSign]:
    return [part for part in module.modules() if isinstance(part, DeSign)]


def test_only_the_first_convolutions_are_dithered_if_asked() -> None:
    module = build(Configuration(width=0.1, activation="2d", dithered=2), SHAPE, 7)
    dithers = [bool(part.kernel.values.any()) for part in activations(module)]
    assert dithers == [True, True] + [False] * 6


def test_the_estimator_is_the_models_own_or_the_one_named() -> None:
    for model, own in (("binarynet", "clipped"), ("vgg_small", "polynomial")):
        for named in ("", "identity"):
            module = build(Configuration(model=model, width=0.125, activation="2d", estimator=named), SHAPE, 7)
            used = {part.estimator for part in activations(module)}
            assert used == {named or own}


@pytest.mark.parametrize("model", ["binarynet", "resnet20"])
@pytest.mark.parametrize(("centre", "scale"), [(True, False), (False, True), (False, False)])
def test_batch_norms_without_centre_or_scale_stay_where_they_start(model: str, centre: bool, scale: bool) -> None:
    module = trained_a_little(
        Configuration(model=model, width=0.25, activation="2d", batch_norm_centre=centre, batch_norm_scale=scale)
    )
    norms = [part for part in module.modules() if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert norms
    assert all(bool((norm.bias == 0).all()) is not centre for norm in norms)
    assert all(bool((norm.weight == 1).all()) is not scale for norm in norms)


def test_recu_stands_in_binary_convolutions_only() -> None:
    module = build(Configuration(model="binarynet", width=0.1, binariser="recu"), SHAPE, 7)
    assert sum(isinstance(part, ReCU) for part in module.modules()) == 5


def test_a_kernel_that_does_not_divide_the_channels_is_refused() -> None:
    with pytest.raises(RefdesignError, match=r"a kernel of 4 slices for layers of 6 channels \(width 0.05\)"):
        build(Configuration(width=0.05, activation="3d"), SHAPE, 7)
