"""Robust training and learning without labels on CIFAR-10's images, on two cores.

    python benchmarks/real_cifar.py robust CIFAR RUNS
    python benchmarks/real_cifar.py labels CIFAR RUNS [MOBILENET_V2]

CIFAR is a folder with CIFAR-10's binary files, of whose training images a fifth validates; RUNS receives the
runs. Both are resumed where they were interrupted, and read back once they are complete.

``robust`` trains ``voclab.experiments.hardening.ROBUST`` and reports the accuracy on all test images, clean
under PGD with 20 steps and in the worst case over attacks, at 8/255, with 95 % Wilson intervals. ``labels``
trains and probes what
``voclab.experiments.unlabelled`` compares, at its setting for photographs; MOBILENET_V2 is a weights file of
MobileNetV2 without top. Without it ImageNet weights that are at hand are the upper line, if there are any.
"""

import sys
from pathlib import Path

import pandas as pd

from voclab import plotting
from voclab.attacks import Bench, Network
from voclab.attacks.worst_case import group
from voclab.evaluation import open_network
from voclab.experiments import hardening, unlabelled
from voclab.experiments.common import Profile
from voclab.experiments.options import asked
from voclab.experiments.train import parts, trained
from voclab.metrics import Chance
from voclab.metrics.statistics import wilson
from voclab.models.pretrained import resolve_weights
from voclab.training import Run
from voclab.training.experiment import model_digest
from voclab.training.identity import data_digest, known_by

EPSILON = 8  # steps of 1/255
SEED = 0
WORST = {"steps": 50, "targets": 4, "queries": 1000}  # RobustBench's 100, 9 and 5,000 take an hour a network


def robust(cifar: str, runs: str) -> pd.DataFrame:
    """Train each setting, measure it on all test images, and print a table."""
    rows = {}
    for name, options in hardening.robust_trainings(Path(cifar), SEED).items():
        run, test = trained(options, name, Path(runs)), parts(options).test
        victim = open_network(run.folder, test)
        bench = Bench(test, victim.size)
        config = {
            "epsilon": EPSILON,
            "attacks": WORST,
            "data": data_digest(test),
            "network": model_digest(victim.model),
        }
        measured = Run(Path(runs) / "measured" / name)
        code = known_by(config, hardening.robust_accuracy, hardening.worst_cases)
        complete = measured.begin(code, progress=print)
        found = measured.once("accuracy", lambda v=victim, b=bench: hardening.robust_accuracy(v, b, EPSILON))
        attacked = measured.once("worst case", lambda v=victim, b=bench: _worst_case(v, b))
        if not complete:
            measured.finish(found | attacked)
        rows[name] = {
            "validation, PGD-5": f"{run.metrics['validation']['robust']:.3f}",
            "epoch": str(run.metrics["validation"]["epoch"]),
            "minutes": f"{run.metrics['seconds'] / 60:.1f}",
        } | {title: _written(share, len(test)) for title, share in found.items()}
        rows[name] |= {
            "worst case": _written(attacked["worst"], len(test)),
            "found by Square alone": attacked["found by Square alone"],
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("training")
    print(table.to_string())
    return table


def _worst_case(victim: Network, bench: Bench) -> dict:
    """Accuracy under each attack of a group, and the worst case."""
    table = hardening.worst_cases({"": victim}, bench, EPSILON, group(**WORST), print)
    return table.drop(columns="network").iloc[0].to_dict()


def labels(cifar: str, runs: str, mobilenet: str | None = None) -> pd.DataFrame:
    """Train and probe, print a table and what was found, and draw the curves into RUNS."""
    options = {"dataset": cifar, "model": "resnet8", "seed": SEED, "validation": 0.2}
    data = parts(asked(options))
    weights = resolve_weights(mobilenet or "auto", "mobilenet_v2")
    settings = unlabelled.settings(Profile("demo", drawn=False))
    found = unlabelled.study(settings, data, cifar, weights, SEED, Path(runs))
    table = found.table()
    print(unlabelled.shown(table).to_string())
    print(unlabelled.conclusion(table, Chance.accuracy(data.test.labels)))
    print({name: f"{run.metrics['seconds']:.0f} s" for name, run in found.runs.items()})
    plotting.save(plotting.accuracy_by_labels(table), Path(runs) / "accuracy_by_labels", title="")
    return table


def _written(share: float, n: int) -> str:
    low, high = wilson(round(share * n), n)
    return f"{share:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    STUDIES = {"robust": robust, "labels": labels}
    if len(sys.argv) < 4 or sys.argv[1] not in STUDIES:
        raise SystemExit(__doc__)
    STUDIES[sys.argv[1]](*sys.argv[2:])
