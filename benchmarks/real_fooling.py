"""How a classifier of real images falls to noise, FGSM and PGD over the bound epsilon.

    python benchmarks/real_fooling.py VOC RUN FIGURES

VOC is a folder with a VOCdevkit of VOC 2009, RUN the folder of a classifier that notebook 01 trained on it.
Figure and table go to FIGURES, for `voclab gallery`. Attacks are measured on 192 of the test images, spread
evenly, at 224 px, on the 8-bit images.
"""

import sys
from pathlib import Path

import pandas as pd

from voclab import plotting
from voclab.attacks import FGSM, PGD, Bench, Noise
from voclab.data import load, test_split
from voclab.evaluation import open_network
from voclab.metrics.statistics import wilson
from voclab.reporting.page import Page
from voclab.revision import git_revision

ATTACKS = {"sign noise": Noise(), "FGSM": FGSM(), "PGD, 20 steps": PGD()}
EPSILONS = (0.5, 1, 2, 4, 8, 16)
IMAGES, SIZE = 192, 224


def main(voc: str, run: str, figures: str) -> None:
    """Measure, print and draw."""
    test = load("voc2009", voc, test_split("voc2009"))
    network, bench = open_network(run, test), Bench(test.spread(IMAGES), SIZE)
    right = int((~bench.target(network.task).succeeded(network, bench.clean(network).values)).sum())
    rows, curves = {}, {}
    for name, attack in ATTACKS.items():
        shares = []
        for epsilon in EPSILONS:
            images, _ = bench.attack(attack, network, epsilon / 255, progress=print)
            shares.append(bench.effect(network, images)["success"])
            low, high = wilson(round(shares[-1] * right), right)
            rows.setdefault(name, {})[f"{epsilon:g}/255"] = f"{shares[-1]:.1%} [{low:.1%}, {high:.1%}]"
        curves[name] = (list(EPSILONS), shares)
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("attack")
    print(table.to_string())
    about = (
        f"{IMAGES} of {len(test)} test images at {SIZE} px, {right} of them classified right; success: "
        "the share of those whose top class is none of the true ones afterwards."
    )
    page = Page(Path(figures), "Data: PASCAL VOC 2009.")
    page.figure(
        plotting.fooling_over_epsilon({"classifier": curves}, {"classifier": "attack success rate (%)"}),
        "over_epsilon",
        title="Attack success over the bound",
        caption=about,
        alt="Line chart of the attack success rate over epsilon for noise, FGSM and PGD",
    )
    page.table(table, "over_epsilon_table", title="The same in numbers", caption=about + " 95 % intervals.")
    page.close(
        {
            "question": "How small a change fools a classifier of real images?",
            "answer": "At 2/255: "
            + "; ".join(f"{name} {row['2/255']}" for name, row in rows.items())
            + ". The trained adversary of notebook 03 is in docs/results.md.",
            "main_figure": "01_over_epsilon",
            "key_numbers": {f"{name} at 8/255": row["8/255"] for name, row in rows.items()},
            "data": "PASCAL VOC 2009",
            "dataset": "voc2009",
            "model": Path(run).name,
            "git": git_revision(),
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
