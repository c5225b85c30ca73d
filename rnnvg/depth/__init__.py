"""The same measurement with layers for steps: chains, deep networks, their remedies, and a checker for anyone's model."""

from rnnvg.depth.gradients import LayerGradients, layer_gradients, layer_profile, network_gradients
from rnnvg.depth.networks import DeepNetwork, build

__all__ = ["DeepNetwork", "LayerGradients", "build", "layer_gradients", "layer_profile", "network_gradients"]
