"""Pages that can be read without running: a Markdown file with tables, its figures, and the same as JSON."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from voclab import plotting
from voclab.corruptions import CONSISTENCY, STRENGTHS
from voclab.data.base import Dataset
from voclab.errors import VoclabError
from voclab.evaluation import robustness
from voclab.evaluation.consistency import ALL, one_image
from voclab.evaluation.measure import CLEAN
from voclab.evaluation.robustness import Measured, Subject
from voclab.evaluation.study import MEASURES, PUBLISHED, Study
from voclab.experiments import comparison
from voclab.files import read_json, write_json, write_text
from voclab.reporting import gallery
from voclab.text import markdown

_SPREAD = ("nine images of ten keep", "images that keep all", "none")
_FEW = 30  # images; the bootstrap interval of fewer is too narrow


def consistency_report(study: Study, folder: str | Path) -> list[Path]:
    """Write ``consistency.md``, ``consistency.json`` and their figures.

    Args:
        study: what was measured.
        folder: where to; files of the same names are replaced, others stay.

    Returns:
        Paths of the page, the JSON file and the PNGs.

    Raises:
        VoclabError: a file that cannot be written.
    """
    folder = Path(folder)
    drawn = consistency_figures(study, folder)
    write_json(folder / "consistency.json", study.as_dict())
    return [
        write_page(folder / "consistency.md", consistency_text(study), drawn),
        folder / "consistency.json",
        *drawn,
    ]


def consistency_figures(study: Study, folder: Path) -> list[Path]:
    """Save the figures of a study of consistency; returns their PNGs."""
    tables, images = study.tables(), _images(study)
    apart = len(next(iter(tables.values()))) - len(CONSISTENCY)
    names = ", ".join(tables)
    drawn = [
        plotting.save(
            plotting.dots_with_intervals(
                tables, {"kept": "images whose top-1 is kept (%)"}, apart, percent=True
            ),
            folder / "consistency_kept",
            title=f"Which answers stay: {images}",
            caption="Share of images whose top class stays the same under each perturbation."
            + _bars(study, " Control: another image instead of a perturbed version."),
            alt=f"Dots with intervals of {names} for ten perturbations and all together",
        ),
        plotting.save(
            plotting.dots_with_intervals(
                tables, {key: MEASURES[key] for key in ("cosine", "euclidean")}, apart
            ),
            folder / "consistency_features",
            title=f"Which features stay: {images}",
            caption="Cosine similarity a·b / (‖a‖ ‖b‖) and Euclidean similarity 1 / (1 + ‖a − b‖ / ‖a‖) of"
            " the last feature map, averaged over places, of a clean image (a) and its perturbed version (b)."
            + _bars(study, " Control: b is another image, which says where a network's scale begins."),
            alt=f"Dots with intervals of {names} for ten perturbations and all together",
        ),
    ]
    if study.facts["images"] > 1:
        marks = {name: PUBLISHED[name] for name in tables if name in PUBLISHED}
        drawn.append(
            plotting.save(
                plotting.share_distribution(study.kept_shares(), len(CONSISTENCY), marks),
                folder / "consistency_images",
                title=f"What a single image would have said: {images}",
                caption="Images by the number of perturbations under which their answer stays. Every bar is a"
                f" result that a study of one image could have published. {_published()}",
                alt=f"Histograms of {names} over the number of answers kept",
            )
        )
    for number, (name, found) in enumerate(study.examples.items(), start=1):
        kept = sum(found.kept[1:])
        drawn.append(
            plotting.save(
                plotting.perturbed_versions(found.images, found.titles, found.said, found.kept),
                folder / f"consistency_versions_{number}_{re.sub(r'[^A-Za-z0-9_-]+', '-', name)}",
                title=f"{name} on {found.image}: {kept} of {len(found.kept) - 1} answers stay",
                caption="The image as the network sees it and its perturbed versions with the top class:"
                " green the original's, red another."
                + (" The same image for all networks, a typical one." if study.facts["images"] > 1 else ""),
                alt=f"{found.image} and {len(found.kept) - 1} perturbed versions with what {name} calls them",
                images=True,
            )
        )
    return drawn


def consistency_text(study: Study) -> str:
    """The page of a study of consistency in Markdown, without its figures."""
    tables, facts = study.tables(), study.facts
    totals = {}
    for name, table in tables.items():
        row, found = table.loc[ALL], one_image(study.results[name])
        totals[name] = [_cell(row, "kept"), _cell(row, "cosine"), _cell(row, "euclidean")]
        if facts["images"] > 1:
            totals[name] += [f"{_percent(found['low'])} to {_percent(found['high'])}"]
            totals[name] += [_percent(found["all"]), _percent(found["none"])]
    parts = [
        "# Prediction consistency",
        f"Measured on {markdown(_images(study))} under {len(CONSISTENCY)} perturbations, seed"
        f" {facts['seed']}. Each image is resized to the network's own square and then perturbed. An answer"
        " is kept if the top class stays the same, right or wrong.",
        markdown_table(["network", *MEASURES.values(), *_SPREAD * (facts["images"] > 1)], totals),
        _interval_note(facts["images"]),
        "## Where one image misleads",
        "\n".join(f"- {markdown(line)}" for line in study.misleading()),
        _published(),
    ]
    for measure, title in MEASURES.items():
        titles = next(iter(tables.values())).index
        rows = {row: [_cell(table.loc[row], measure) for table in tables.values()] for row in titles}
        parts += [f"## {title[0].upper() + title[1:]}", markdown_table(["perturbation", *tables], rows)]
    networks = {
        name: [entry["weights"], entry["classes"], f"{entry['size']} × {entry['size']}", entry["features"]]
        for name, entry in study.networks.items()
    }
    settings = {title: [f"{s.strength:g}", STRENGTHS[s.name]] for title, s in CONSISTENCY.items()}
    parts += [
        "## What was measured",
        markdown_table(
            ["network", "weights", "classes", "input in pixels", "layer of the features"], networks
        ),
        "An answer out of fewer classes is kept more easily: compare networks with as many, or each with its"
        " control, in which another image takes the place of the perturbed version.",
        "Features are the output of that layer, averaged over places: a of the clean image, b of the"
        " perturbed one. Cosine similarity is a·b / (‖a‖ ‖b‖). Euclidean similarity is"
        " 1 / (1 + ‖a − b‖ / ‖a‖): 1 for the same features, 1/2 where they differ by their own length."
        " Features are never negative after most activations, so even unrelated images are alike: read"
        " similarities against the control, and do not rank networks by them.",
        markdown_table(["perturbation", "strength", "what is counted"], settings),
        "Lengths are pixels of the network's input, so the same blur is milder to a network of larger input.",
    ]
    return "\n\n".join(parts)


def robustness_report(
    measured: Mapping[str, Measured],
    tested: Sequence[Subject],
    dataset: Dataset,
    folder: str | Path,
    baseline: str | None = None,
) -> list[Path]:
    """Write a page for each network, ``<name>/README.md`` and ``<name>/index.html``, and one to compare them.

    Args:
        measured: what :func:`voclab.evaluation.robustness.measure` gave.
        tested: the networks.
        dataset: the images that it was given.
        folder: of the report; ``README.md`` there compares the networks.
        baseline: network that mCE is relative to among those of its task; without it the first of each task.

    Returns:
        Paths of the pages.

    Raises:
        VoclabError: a baseline that is not there, or a file that cannot be written.
    """
    folder, pages = Path(folder), []
    if baseline is not None and baseline not in measured:
        raise VoclabError(f"The baseline {baseline} is not among {', '.join(measured)}; name one of them.")
    for subject in tested:
        pages += _robustness_page(subject, measured[subject.name], dataset, folder / subject.name)
    facts = next(iter(measured.values())).facts
    parts = [
        "# Robustness",
        f"Measured on {facts['images']} images of {markdown(facts['data'])}, attacks on {facts['attacked']},"
        f" seed {facts['seed']}."
        " A name leads to the page of that network.",
    ]
    for segmenters in (False, True):
        part = {name: m for name, m in measured.items() if m.segmenter == segmenters}
        if part:
            found = comparison.overview(part, baseline if baseline in part else None)
            parts += ["## Segmenters" if segmenters else "## Classifiers", _linked(found.table)]
            parts += [
                (
                    "Dice: mean over foreground classes."
                    if segmenters
                    else "Accuracy: the top class is a true one."
                )
                + " Under noise, blurred: means over those perturbations. mCE: mean corruption error over"
                " ImageNet-C's fifteen corruptions and five severities relative to"
                f" {markdown(found.baseline)} (Hendrycks & Dietterich 2019);"
                " relative mCE: the same of what is lost against clean images. Under 100 % is better than"
                " that network."
                + (
                    ""
                    if segmenters
                    else " Answers kept: under the ten perturbations of the consistency study."
                )
            ]
            parts += [markdown(note) for note in found.notes]
    return [write_page(folder / "README.md", "\n\n".join(parts)), *pages]


def _linked(table: pd.DataFrame) -> str:
    rows = {
        str(name): ["–" if pd.isna(v) else f"{v:.1f}" if "%" in c else f"{v:.3f}" for c, v in row.items()]
        for name, row in table.iterrows()
    }
    links = {name: f"{quote(os.fsencode(name))}/README.md" for name in rows}
    return markdown_table(["network", *table.columns], rows, links)


def _robustness_page(subject: Subject, m: Measured, dataset: Dataset, folder: Path) -> list[Path]:
    """The page of one network; figures of an earlier one that were not drawn again are dropped."""
    page, what = plotting.FigureFolder(folder), "mean Dice" if m.segmenter else "top class right (share)"
    images, error = f"{m.facts['images']} images", "1 - Dice" if m.segmenter else "share of wrong answers"
    page.figure(
        plotting.condition_scores({subject.name: m.scores}, what),
        "conditions",
        title=f"{subject.name} under perturbations and attacks",
        caption=f"Measured on {images}; attacks, which use the network's gradient, on {m.facts['attacked']}.",
        alt=f"Dots: {what} of {subject.name} under each perturbation and attack",
    )
    page.table(
        m.conditions.drop(columns="images")
        .assign(images=m.conditions["images"].astype(str))
        .rename(columns={"map": "mAP", "f1": "F1", "ece": "ECE", "dice": "Dice", "miou": "mIoU"}),
        "conditions",
        title="The same in numbers",
        caption="Fooled: share of what was right (for segmenters: of the Dice) that is lost, for attacks"
        " their success rate."
        + (
            ""
            if m.segmenter
            else " Precision, recall, F1: means over classes. ECE: expected calibration error."
        ),
    )
    page.figure(
        plotting.severity_panels(comparison.corruption_panels(m), error),
        "corruptions",
        title=f"{subject.name} under ImageNet-C's corruptions",
        caption=f"Error over severity, {images}. Fifteen corruptions of four families (Hendrycks &"
        " Dietterich 2019).",
        alt=f"Four panels of lines: error of {subject.name} over severity for each corruption",
    )
    page.table(
        comparison.error_table(m),
        "corruptions",
        title=f"Error under each corruption (clean {m.clean_error:.3f})",
        caption=f"Error: {error}.",
    )
    if m.reliability:
        eces = m.conditions["ece"]
        shown = list(dict.fromkeys([CLEAN, "Gaussian noise 0.2", eces.idxmax()]))
        page.figure(
            plotting.reliability_diagram({k: m.reliability[k] for k in shown}, eces),
            "reliability",
            title=f"Can {subject.name}'s probabilities be believed?",
            caption="On clean images, under strong noise, and where the calibration error is largest.",
            alt="Observed frequency over predicted probability under several conditions",
        )
    if m.consistency is not None:
        apart = len(m.consistency) - len(CONSISTENCY)
        page.figure(
            plotting.dots_with_intervals(
                {subject.name: m.consistency}, {"kept": "images whose top-1 is kept (%)"}, apart, percent=True
            ),
            "kept",
            title=f"Which answers of {subject.name} stay",
            caption="Share of images whose top class, right or wrong, stays the same, with 95 % intervals"
            " over images.",
            alt="Dots with intervals for ten perturbations and all together",
        )
        page.figure(
            plotting.dots_with_intervals(
                {subject.name: m.consistency}, {key: MEASURES[key] for key in ("cosine", "euclidean")}, apart
            ),
            "features",
            title=f"Which features of {subject.name} stay",
            caption="Cosine similarity a·b / (‖a‖ ‖b‖) and Euclidean similarity 1 / (1 + ‖a − b‖ / ‖a‖) of"
            " the last feature map,"
            " averaged over places, of a clean image (a) and its perturbed version (b).",
            alt="Dots with intervals for ten perturbations and all together",
        )
    _versions(page, subject, m, dataset.spread(m.facts["images"]))
    page.close(
        {
            "question": f"What harms {subject.name}, and how much?",
            "answer": comparison.text(subject.name, m),
            "data": f"{dataset.name} {dataset.split}: {dataset.source}",
            "model": f"{m.facts['model']}, images of {m.facts['size']} pixels",
            "seed": m.facts["seed"],
        }
    )
    introduction = (
        f"One network under everything that may happen to an image, on {images} of {m.facts['data']}."
    )
    return list(gallery.write_page(folder, f"Robustness of {subject.name}", introduction))


def _versions(page: plotting.FigureFolder, subject: Subject, m: Measured, dataset: Dataset) -> None:
    """One image beside its perturbed versions, with what the network says of each."""
    name = dataset.ids[m.example]
    if m.segmenter:
        images, titles, masks = robustness.perturbed_masks(subject, dataset, m.example, m.facts["seed"])
        figure = plotting.image_grid(
            [p for k in range(len(images)) for p in (images[k], plotting.overlay(images[k], masks[k]))],
            [t for title in titles for t in (title, "its labels")],
            columns=6,
        )
        for axis, mask in zip(figure.axes[1::2], masks):
            plotting.name_regions(axis, mask, dataset.class_names)
        plotting.mask_legend(figure, np.unique(masks), dataset.class_names)
        title, caption = (
            f"{subject.name} on {name}",
            "The image and its perturbed versions with the labels given to them.",
        )
    else:
        found = robustness.perturbed_answers(subject, dataset, m.example, m.facts["seed"])
        figure = plotting.perturbed_versions(found.images, found.titles, found.said, found.kept)
        title = f"{subject.name} on {name}: {sum(found.kept[1:])} of {len(CONSISTENCY)} answers stay"
        caption = (
            "The image as the network sees it and its perturbed versions with the top class: green the"
            " original's, red another."
        )
    page.figure(
        figure,
        "versions",
        title=title,
        caption=f"{caption} A typical image, not a choice one.",
        alt=f"{name} and its perturbed versions with what {subject.name} says",
        images=True,
    )


def write_page(path: Path, text: str, images: Sequence[Path] = ()) -> Path:
    """Write a Markdown page, its figures with title and caption at the end; returns its path.

    Args:
        path: of the page.
        text: Markdown.
        images: PNGs of :func:`voclab.plotting.save` in the same folder.
    """
    parts = [text]
    if images:
        parts.append("## Figures")
    for image in images:
        texts = read_json(image.with_name(image.stem + ".json"))
        title, alt, caption = (markdown(texts[key]) for key in ("title", "alt", "caption"))
        parts.append(f"**{title}**\n\n![{alt}]({quote(image.name)})\n\n{caption}")
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def markdown_table(
    header: Sequence[str], rows: Mapping[str, Sequence[str]], links: Mapping[str, str] | None = None
) -> str:
    """A Markdown table: a row for each name, with its cells; columns of numbers are put to the right.

    Args:
        header: of the columns, that of the names first; like all cells, it is shown as it is.
        rows: name -> cells.
        links: name -> address that it leads to.
    """
    lines = [[str(cell) for cell in (name, *cells)] for name, cells in rows.items()]
    rules = ["---:" if all(re.match(r"[-–\d]", cell) for cell in column) else "---" for column in zip(*lines)]
    lines = [[markdown(cell) for cell in line] for line in (header, *lines)]
    for line, name in zip(lines[1:], rows, strict=True):
        if links:
            line[0] = f"[{line[0]}]({links[name]})"
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rules, *lines[1:]))


def _cell(row: pd.Series, measure: str) -> str:
    """A mean with its interval: shares as percent, similarities with two digits."""
    values = [row[measure], row[f"{measure} low"], row[f"{measure} high"]]
    if measure == "kept":
        mean, low, high = (f"{100 * value:.1f}" for value in values)
        mean += " %"
    else:
        mean, low, high = (f"{value:.3f}" for value in values)
    return mean if np.isnan(values[1]) else f"{mean} [{low}, {high}]"


def _interval_note(images: int) -> str:
    if images == 1:
        return "One image has no interval."
    note = "In brackets: 95 % bootstrap intervals over images."
    return note + (f" They are too narrow for so few images (under {_FEW})." if images < _FEW else "")


def _images(study: Study) -> str:
    count, data = study.facts["images"], f"{study.facts['data']} {study.facts['split']}".strip()
    return f"one image, {study.ids[0]}" if count == 1 else f"{count} images of {data}"


def _bars(study: Study, control: str) -> str:
    several = study.facts["images"] > 1
    return f" Means with 95 % bootstrap intervals over images.{control}" if several else ""


def _published() -> str:
    shares = ", ".join(f"{name} {_percent(share)}" for name, share in PUBLISHED.items())
    return f"A published table on one image, with other strengths, gave {shares}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
