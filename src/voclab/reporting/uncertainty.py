"""The page of ``voclab uncertainty``: tables and figures of what was measured, a chapter a network."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from voclab import plotting
from voclab.data.base import Dataset
from voclab.evaluation.conditions import CLEAN
from voclab.evaluation.uncertainty import Uncertainty
from voclab.evaluation.unknown import Unknown
from voclab.files import write_json
from voclab.reporting.page import Chapter, Page, data_title, write_page
from voclab.text import markdown


def uncertainty_report(
    measured: Mapping[str, tuple[Uncertainty, Mapping[str, Unknown]]], dataset: Dataset, folder: str | Path
) -> list[Path]:
    """Write ``README.md``, ``index.html``, ``uncertainty.json`` and a folder of figures a network.

    Args:
        measured: name of a network -> how far its probabilities can be trusted, and what it says of unknown
            images, by the title of the set.
        dataset: the test images.
        folder: of the report. Returns the paths.
    """
    folder, data = Path(folder), f"{data_title(dataset.name)}, {dataset.split}"
    chapters = [
        _chapter(name, *found, data, dataset.source, folder / name) for name, found in measured.items()
    ]
    introduction = (
        f"How far the probabilities of {' and '.join(measured)} can be trusted, on {data}: before and after"
        " temperature scaling, as conformal sets with a target recall, and on unknown images."
    )
    paths = write_page(folder, "Uncertainty", introduction, chapters)
    write_json(folder / "uncertainty.json", as_dict(measured))
    return [*paths, folder / "uncertainty.json"]


def as_dict(measured: Mapping[str, tuple[Uncertainty, Mapping[str, Unknown]]]) -> dict:
    """Everything but the curves as plain values for JSON."""
    return {
        name: {
            **found.as_dict(),
            "unknown": {
                title: {
                    "known": sets.known,
                    "unknown": sets.unknown,
                    "told": sets.told,
                    "scores": {score: asdict(value) for score, value in sets.separations.items()},
                }
                for title, sets in unknown.items()
            },
        }
        for name, (found, unknown) in measured.items()
    }


def _chapter(
    name: str, found: Uncertainty, unknown: Mapping[str, Unknown], data: str, source: str, folder: Path
) -> Chapter:
    facts, segmenter = found.facts, found.facts["task"] == "segmentation"
    page = Page(folder, f"Data: {data}; network: {facts['model']}.")
    shifts = f"ImageNet-C's corruptions at severity {facts['severity']}"
    eces = dict(zip(found.reliability, found.calibration.loc[CLEAN, ["ece", "ece scaled"]]))
    one = facts["task"] != "multilabel"
    labels = ("confidence of the answer", "share of right answers") if one else ()
    page.figure(
        plotting.reliability_diagram(found.reliability, eces, *labels),
        "reliability",
        title=f"{name} before and after temperature scaling",
        caption=f"Clean test images. Logits are divided by {found.temperature:.2f}, which was fitted on the"
        " calibration images (Guo et al. 2017). Below the diagonal the network is overconfident.",
        alt=f"Observed frequency over predicted probability of {name} before and after temperature scaling",
    )
    page.table(
        calibration_table(found),
        "calibration",
        title="Calibration error before and after",
        caption=f"ECE: expected calibration error, 15 bins. NLL: negative log-likelihood"
        f" ({'of a pixel' if segmenter else 'of an answer' if one else 'of a label'}, nats)."
        f" The temperature comes from clean images; the other rows are {shifts}."
        " Gain: by how much scaling lowers the NLL of an image, with its 95 % bootstrap interval over images."
        + (" Up to 400 pixels of each image are measured, drawn by the seed." if segmenter else "")
        + ("" if one else " Most labels are absent and surely so, which keeps both figures small."),
    )
    size = "share of the image in the set" if segmenter else "classes in a set, mean"
    page.figure(
        plotting.promised_recall(found.promises, size),
        "promises",
        title=f"Target and achieved recall of {name}",
        caption="Left: recall, mean over images with 95 % bootstrap intervals; on or above the line the"
        f" target is reached. Right: {size}. Thresholds come from {facts['calibration images']} clean images"
        " (conformal risk control, Angelopoulos et al. 2022), of probabilities before temperature scaling."
        f" The target is met on average over draws of such calibration images, not under {shifts}.",
        alt="Achieved over target recall and size of the sets, one line per condition",
    )
    page.table(
        promises_table(found.promises, size),
        "promises",
        title="The same in numbers",
        caption="Recall: of what is in an image, the share that is in its set, mean over images [95 %"
        " bootstrap interval]"
        + (
            "; foreground pixels, void left out. A pixel is in the set if one minus the probability of the"
            " background reaches the threshold."
            if segmenter
            else ". A class is in the set if its probability reaches the threshold."
        ),
    )
    if unknown:
        _add_unknown(page, name, unknown)
    record = {"answer": findings(name, found, unknown), "data": f"{data}: {source}", "seed": facts["seed"]}
    page.close(record)
    return Chapter(folder, record, page.items, name)


def _add_unknown(page: Page, name: str, unknown: Mapping[str, Unknown]) -> None:
    page.figure(
        plotting.known_and_unknown({title: sets.curves for title, sets in unknown.items()}),
        "unknown",
        title=f"Known against unknown images, told apart by {name}",
        caption="ROC curves over all thresholds of each score. Dotted: 95 % of the known images pass.",
        alt="One panel per set of unknown images: share of known over share of unknown images that pass",
    )
    told = " ".join(sets.told for sets in unknown.values() if sets.told)
    near = (
        " Left out: known are test images without these classes, unknown those that show nothing else. The"
        f" features may have been trained with these classes, the head was not. {told}"
    )
    page.table(
        unknown_table(unknown),
        "unknown",
        title="The same in numbers",
        caption="AUROC: probability that a known image has the higher score, 0.5 by guessing. FPR at 95 %:"
        " share of the unknown images that pass where 95 % of the known ones do. In brackets: 95 % bootstrap"
        " intervals. Of independent labels the largest probability ranks images as the largest logit does, so"
        " it is not listed. Nearest neighbours: distance of the features to the 10th nearest calibration"
        " image (Sun et al. 2022). Other data may show classes of the same name; unknown means of another"
        f" kind than the training images.{near if told else ''}",
    )


def calibration_table(found: Uncertainty) -> pd.DataFrame:
    """ECE and NLL before and after temperature scaling, and what it gains, a row a condition."""
    columns = {"ece": "ECE", "ece scaled": "ECE, scaled", "nll": "NLL", "nll scaled": "NLL, scaled"}
    gains = found.calibration[["gain", "low", "high"]].apply(lambda row: _interval(row, ".4f"), axis=1)
    return found.calibration[list(columns)].rename(columns=columns).assign(gain=gains).rename(index=_said)


def unknown_table(unknown: Mapping[str, Unknown]) -> pd.DataFrame:
    """AUROC and false positive rate, a row a set of unknown images and score."""
    rows = {
        (title, score): [
            _interval(value.auroc),
            _interval(value.fpr),
            f"{sets.known} / {sets.unknown}",
        ]
        for title, sets in unknown.items()
        for score, value in sets.separations.items()
    }
    return pd.DataFrame(
        list(rows.values()),
        pd.MultiIndex.from_tuples(rows, names=["unknown images", "score"]),
        ["AUROC", "FPR at 95 %", "known / unknown"],
    )


def promises_table(promises: pd.DataFrame, size: str) -> pd.DataFrame:
    """Promised and achieved recall and the size of the sets, which ``size`` names, a row a condition."""
    rows = [
        [
            f"{100 * row.promised:g} %",
            _interval((100 * row.recall, 100 * row.low, 100 * row.high), ".1f"),
            f"{row.size:.3f}" if "share" in size else f"{row.size:.1f}",
            "all" if row.threshold == -np.inf else f"{row.threshold:.3g}",
        ]
        for row in promises.itertuples(index=False)
    ]
    index = pd.Index([_said(condition) for condition in promises["condition"]], name="condition")
    return pd.DataFrame(rows, index, ["target", "recall (%)", size, "threshold"])


def findings(name: str, found: Uncertainty, unknown: Mapping[str, Unknown]) -> str:
    """What the numbers say, as a list in Markdown."""
    clean = found.calibration.loc[CLEAN]
    gain = _interval(clean[["gain", "low", "high"]], ".4f")
    undecided = clean["low"] <= 0 <= clean["high"]
    does = "does not clearly change" if undecided else "lowers" if clean["gain"] > 0 else "raises"
    lines = [
        found.facts["calibrated on"],
        f"Temperature scaling by {found.temperature:.2f} {does} the NLL of clean images (gain {gain})."
        f" ECE: {clean['ece']:.3f} before, {clean['ece scaled']:.3f} after.",
    ]
    for condition, rows in found.promises.groupby("condition", sort=False):
        where = "On clean images" if condition == CLEAN else f"Under {_said(condition)}"
        broken = [
            f"{100 * row.promised:g} % (recall {100 * row.recall:.1f} %)"
            for row in rows.itertuples()
            if row.high < row.promised
        ]
        lines.append(f"{where}, recall clearly below the target: {', '.join(broken) or 'none'}.")
    for title, sets in unknown.items():
        best = max(sets.separations, key=lambda score: sets.separations[score].auroc[0])
        auroc = sets.separations[best].auroc
        told = (
            "not clearly told from known images; best" if auroc[1] <= 0.5 else "told from known images best"
        )
        lines.append(f"Unknown images, {title}: {told} by {best}, AUROC {_interval(auroc)}.")
    return "\n".join(f"- {markdown(line)}" for line in lines)


def _interval(values: Sequence[float], digits: str = ".3f") -> str:
    """A value with its interval, from (value, low, high)."""
    value, low, high = values
    return f"{value:{digits}}" + ("" if np.isnan(low) else f" [{low:{digits}}, {high:{digits}}]")


def _said(condition: str) -> str:
    return condition.replace("_", " ")
