"""Perturbations within an exact bound: with and without gradients, the trained adversary, controls."""

from voclab.attacks.adversarial_training import AdversarialTraining
from voclab.attacks.adversary import AdversarialPerturbation, Adversary
from voclab.attacks.apgd import APGD, TargetedAPGD
from voclab.attacks.budget import Budget
from voclab.attacks.gradient import FGSM, PGD, Attack, Noise
from voclab.attacks.measures import HANDLING, Bench, handled, swapped, visibility
from voclab.attacks.square import Square
from voclab.attacks.target import Target
from voclab.data.images import eight_bit
from voclab.models.network import Network

__all__ = [
    "APGD",
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
    "Square",
    "Target",
    "TargetedAPGD",
    "eight_bit",
    "handled",
    "swapped",
    "visibility",
]
