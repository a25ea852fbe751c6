"""Training: one loop for every network, and what is particular to classifiers."""

from voclab.training.loop import Recipe, train
from voclab.training.run import Run, load_model

__all__ = ["Recipe", "Run", "load_model", "train"]
