"""An exact reference for binary networks with dithered sign activations (DeSign)."""
