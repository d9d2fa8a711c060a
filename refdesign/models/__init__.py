"""Architectures as networks, one a module; each with given or with random weights."""

from refdesign.models.binarynet import binarynet
from refdesign.models.builder import LayerParameters
from refdesign.models.resnet18 import resnet18
from refdesign.models.resnet20 import resnet20
from refdesign.models.vgg_small import vgg_small

__all__ = ["LayerParameters", "binarynet", "resnet18", "resnet20", "vgg_small"]
