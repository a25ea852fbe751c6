"""Perturbations within an exact bound: gradient attacks, the trained adversary, controls, their effects."""

from voclab.attacks.adversary import Adversary, Experiment, run_experiment
from voclab.attacks.budget import Budget
from voclab.attacks.gradient import FGSM, PGD, Attack, Noise
from voclab.attacks.measures import HANDLING, Bench, handled, visibility
from voclab.attacks.target import Target
from voclab.attacks.victim import Victim
from voclab.data.images import eight_bit

__all__ = [
    "FGSM",
    "HANDLING",
    "PGD",
    "Adversary",
    "Attack",
    "Bench",
    "Budget",
    "Experiment",
    "Noise",
    "Target",
    "Victim",
    "eight_bit",
    "handled",
    "run_experiment",
    "visibility",
]
