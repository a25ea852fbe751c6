"""Perturbations within an exact bound: attacks with and without gradients, the trained adversary, controls."""

from voclab.attacks.adversarial_training import AdversarialTraining
from voclab.attacks.adversary import AdversarialPerturbation, Adversary
from voclab.attacks.apgd import APGD, TargetedAPGD
from voclab.attacks.budget import Budget
from voclab.attacks.gradient import FGSM, PGD, Attack, Noise
from voclab.attacks.measures import HANDLING, Bench, handled, swapped, visibility
from voclab.attacks.square import Square
from voclab.attacks.target import Target
from voclab.attacks.worst_case import group, worst_case
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
    "group",
    "handled",
    "swapped",
    "visibility",
    "worst_case",
]
