"""Perturbations within an exact bound: gradient attacks, the trained adversary, controls, their effects."""

from voclab.attacks.adversary import Adversary, Experiment, run_experiment
from voclab.attacks.budget import Budget
from voclab.attacks.gradient import FGSM, PGD, Attack, Noise
from voclab.attacks.measures import HANDLING, Bench, handled, visibility
from voclab.attacks.target import Target
from voclab.data.images import eight_bit
from voclab.models.network import Network

__all__ = [
    "FGSM",
    "HANDLING",
    "PGD",
    "Adversary",
    "Attack",
    "Bench",
    "Budget",
    "Experiment",
    "Network",
    "Noise",
    "Target",
    "eight_bit",
    "handled",
    "run_experiment",
    "visibility",
]
