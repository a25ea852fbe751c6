"""Training: one loop for every network, and what is particular to classifiers."""

from voclab.training.loop import Recipe, Run, load_model, train

__all__ = ["Recipe", "Run", "load_model", "train"]
