"""Images to run networks on: the official files of CIFAR and STL-10, bundled digits, a photograph, users' own."""

from refdesign.datasets.bundled import photograph
from refdesign.datasets.loading import DATASETS, load
from refdesign.datasets.user_images import images

__all__ = ["DATASETS", "images", "load", "photograph"]
