"""What a network is worth: on clean, corrupted and attacked images."""

from voclab.evaluation.networks import open_network, open_networks, open_saved

__all__ = ["open_network", "open_networks", "open_saved"]
