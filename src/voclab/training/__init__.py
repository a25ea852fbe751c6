"""Training: one kind of experiment and one way to run it, for every network."""

from voclab.models.saved import load_model
from voclab.training.experiment import Experiment, Parts, Task, Work, refit, run
from voclab.training.loop import Recipe, train
from voclab.training.store import Run
from voclab.training.together import run_all

__all__ = [
    "Experiment",
    "Parts",
    "Recipe",
    "Run",
    "Task",
    "Work",
    "load_model",
    "refit",
    "run",
    "run_all",
    "train",
]
