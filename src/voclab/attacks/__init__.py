"""Perturbations within an exact bound: gradient attacks, the trained adversary, controls, their effects."""

from voclab.attacks.adversarial_training import AdversarialTraining
from voclab.attacks.adversary import AdversarialPerturbation, Adversary
from voclab.attacks.budget import Budget
from voclab.attacks.gradient import FGSM, PGD, Attack, Noise
from voclab.attacks.measures import HANDLING, Bench, handled, swapped, visibility
from voclab.attacks.target import Target
from voclab.data.images import eight_bit
from voclab.models.network import Network

__all__ = [
    "FGSM",
    "HANDLING",
    "PGD",
    "AdversarialPerturbation",
    "AdversarialTraining",
    "Adversary",
    "Attack",
    "Bench",
    "Budget",
    "Network",
    "Noise",
    "Target",
    "eight_bit",
    "handled",
    "swapped",
    "visibility",
]
