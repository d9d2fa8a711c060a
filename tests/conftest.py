"""Hypothesis profiles, the fixtures that all tests share, and what is skipped where there is no GPU."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import hypothesis
import pytest

from tests.shared_data import cifar10_binary

# `default` is small enough for every run and repeats itself in continuous integration; `long` is for
# `make test-all`: pytest --hypothesis-profile long (or HYPOTHESIS_PROFILE=long). No deadline: a test never
# asserts a time.
hypothesis.settings.register_profile(
    "default", max_examples=25, deadline=None, derandomize="CI" in os.environ, print_blob=True
)
hypothesis.settings.register_profile("long", max_examples=300, deadline=None, print_blob=True)
# As long, and without sparing engines that compile every network anew: hours, for one engine at a time.
hypothesis.settings.register_profile("exhaustive", parent=hypothesis.settings.get_profile("long"))
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def has_cuda() -> bool:
    """Whether torch is installed and sees an NVIDIA device."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none; torch is imported only when such a test was collected."""
    on_cuda = [item for item in items if item.get_closest_marker("cuda")]
    if not on_cuda:
        return
    if has_cuda():
        # PyTorch asks for it once, at its first matrix product on a device; training needs it, other tests come before.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        return
    for item in on_cuda:
        item.add_marker(pytest.mark.skip(reason="needs an NVIDIA device that torch can use"))


@pytest.fixture(scope="session")
def cifar10_root(request: pytest.FixtureRequest) -> Path:
    """The folder of CIFAR-10 in the official binary format (the JPEG copy); skips where that is absent."""
    return cifar10_binary(Path(request.config.cache.mkdir("shared_data")))
