"""The pages of ``voclab consistency`` and ``voclab robustness``: what was measured, in tables and figures."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from voclab import plotting
from voclab.corruptions import CONSISTENCY, STRENGTHS
from voclab.data.base import Dataset
from voclab.errors import VoclabError
from voclab.evaluation.conditions import CLEAN
from voclab.evaluation.consistency import ALL, MEASURES, PUBLISHED, Study, one_image, versions
from voclab.evaluation.robustness import Measured
from voclab.experiments import robustness
from voclab.files import write_json
from voclab.models.network import Network
from voclab.reporting.page import Page, data_title, text_of, write_page
from voclab.text import markdown

_SPREAD = ("nine images of ten keep", "images that keep all", "none")
_FEW = 30  # images; the bootstrap interval of fewer is too narrow
_HEADINGS = {"map": "mAP", "f1": "F1", "ece": "ECE", "dice": "Dice", "miou": "mIoU"}
_HEADINGS |= {"success": "attack success"}
_KEPT = {"kept": "images whose top-1 is kept (%)"}
_FEATURES = {key: MEASURES[key] for key in ("cosine", "euclidean")}
_SIMILARITY = (
    "Cosine similarity a·b / (‖a‖ ‖b‖) and Euclidean similarity 1 / (1 + ‖a − b‖ / ‖a‖) of the last feature"
    " map, averaged over places, of a clean image (a) and its perturbed version (b)."
)
_VERSIONS = (
    "The image as the network sees it and its perturbed versions with the top class: green the original's,"
    " red another."
)


def consistency_report(study: Study, folder: str | Path) -> list[Path]:
    """Write ``consistency.md``, the same as ``consistency.html``, ``consistency.json`` and their figures.

    Files of the same names are replaced, others stay. Returns the paths.
    """
    folder = Path(folder)
    page = _consistency_page(study, folder)
    _add_consistency_figures(page, study)
    write_json(folder / "consistency.json", study.as_dict())
    record = {"data": _images(study), "seed": study.facts["seed"]}
    names = ("consistency.md", "consistency.html")
    chapters = [page.chapter(record)]
    written = write_page(folder, "Prediction consistency", _introduction(study), chapters, names=names)
    return [*written, folder / "consistency.json", *page.images]


def consistency_text(study: Study) -> str:
    """The tables and texts of a study of consistency in Markdown."""
    return f"{markdown(_introduction(study))}\n\n{text_of(_consistency_page(study, Path()))}"


def _introduction(study: Study) -> str:
    return (
        f"Measured on {_images(study)} under {len(CONSISTENCY)} perturbations, seed {study.facts['seed']}."
        " Each image is resized to the network's own square and then perturbed. An answer is kept if the top"
        " class stays the same, right or wrong."
    )


def _consistency_page(study: Study, folder: Path) -> Page:
    """The page of a study without its figures."""
    tables, several = study.tables(), study.facts["images"] > 1
    page = Page(folder, f"Data: {_images(study)}.", numbered=False)
    totals = {}
    for name, table in tables.items():
        row, found = table.loc[ALL], one_image(study.results[name])
        totals[name] = [_interval(row, measure) for measure in MEASURES]
        if several:
            totals[name] += [f"{_percent(found['low'])} to {_percent(found['high'])}"]
            totals[name] += [_percent(found["all"]), _percent(found["none"])]
    page.table(
        _frame("network", totals, [*MEASURES.values(), *_SPREAD * several]),
        "totals",
        title="All perturbations together",
        caption=_interval_note(study.facts["images"]),
    )
    lines = "\n".join(f"- {markdown(line)}" for line in study.misleading())
    page.text("Where one image misleads", f"{lines}\n\n{_published()}")
    for measure, title in MEASURES.items():
        rows = {
            row: [_interval(table.loc[row], measure) for table in tables.values()]
            for row in next(iter(tables.values())).index
        }
        frame = _frame("perturbation", rows, list(tables))
        page.table(frame, measure, title=title[0].upper() + title[1:], caption="")
    networks = {
        name: [e["weights"], str(e["classes"]), f"{e['size']} × {e['size']}", e["features"]]
        for name, e in study.networks.items()
    }
    page.table(
        _frame("network", networks, ["weights", "classes", "input in pixels", "layer of the features"]),
        "networks",
        title="What was measured",
        caption="An answer out of fewer classes is kept more easily: compare networks with as many, or each"
        " with its control, in which another image takes the place of the perturbed version.",
    )
    page.text(
        "How features are compared",
        "Features are the output of that layer, averaged over places: a of the clean image, b of the"
        " perturbed one. Cosine similarity is a·b / (‖a‖ ‖b‖). Euclidean similarity is"
        " 1 / (1 + ‖a − b‖ / ‖a‖): 1 for the same features, 1/2 where they differ by their own length."
        " Features are never negative after most activations, so even unrelated images are alike: read"
        " similarities against the control, and do not rank networks by them.",
    )
    settings = {title: [f"{s.strength:g}", STRENGTHS[s.name]] for title, s in CONSISTENCY.items()}
    page.table(
        _frame("perturbation", settings, ["strength", "what is counted"]),
        "strengths",
        title="Strength of the perturbations",
        caption="Lengths are pixels of the network's input, so the same blur is milder to a network of larger"
        " input.",
    )
    return page


def _add_consistency_figures(page: Page, study: Study) -> None:
    tables, images, several = study.tables(), _images(study), study.facts["images"] > 1
    names = ", ".join(tables)
    weights = "; ".join(f"{name}, {entry['weights']}" for name, entry in study.networks.items())
    page.source = f"Data: {images}. Weights: {weights}."
    kept = "Share of images whose top class stays the same under each perturbation."
    similar = _SIMILARITY
    if several:
        bars = " Means with 95 % bootstrap intervals over images. Control: "
        kept += f"{bars}another image instead of a perturbed version."
        similar += f"{bars}b is another image: what unrelated images have in common."
    _add_dots(
        page,
        tables,
        ("consistency_kept", f"Consistency of the answers: {images}", kept),
        ("consistency_features", f"Similarity of the features: {images}", similar),
    )
    if several:
        marks = {name: PUBLISHED[name] for name in tables if name in PUBLISHED}
        page.figure(
            plotting.share_distribution(study.kept_shares(), len(CONSISTENCY), marks),
            "consistency_images",
            title=f"Consistency of single images: {images}",
            caption="Images by the number of perturbations under which their answer is kept. Every bar is a"
            f" result that a study of one image could have published. {_published()}",
            alt=f"Histograms of {names} over the number of answers kept",
        )
    for number, (name, found) in enumerate(study.examples.items(), start=1):
        kept = sum(found.kept[1:])
        page.figure(
            plotting.perturbed_versions(found.images, found.titles, found.said, found.kept),
            f"consistency_versions_{number}_{re.sub(r'[^A-Za-z0-9_-]+', '-', name)}",
            title=f"{name} on {found.image}: {kept} of {len(found.kept) - 1} answers kept",
            caption=_VERSIONS + (" The same image for all networks, a typical one." if several else ""),
            alt=f"{found.image} and {len(found.kept) - 1} perturbed versions with what {name} calls them",
            images=True,
        )


def _add_dots(page: Page, tables: Mapping[str, pd.DataFrame], *figures: tuple[str, str, str]) -> None:
    """Which answers stay, and which features: name, title and caption of either figure."""
    apart = len(next(iter(tables.values()))) - len(CONSISTENCY)
    alt = f"Dots with intervals of {', '.join(tables)} for ten perturbations and all together"
    for (name, title, caption), panels in zip(figures, (_KEPT, _FEATURES)):
        figure = plotting.dots_with_intervals(tables, panels, apart, percent=panels is _KEPT)
        page.figure(figure, name, title=title, caption=caption, alt=alt)


def robustness_report(
    measured: Mapping[str, Measured],
    tested: Sequence[Network],
    dataset: Dataset,
    folder: str | Path,
    baseline: str | None = None,
) -> list[Path]:
    """Write a page for each network in a folder of its name, and one to compare them; return their paths.

    Args:
        measured: what :func:`voclab.evaluation.robustness.measure` gave.
        tested: the networks.
        dataset: the images that it was given.
        folder: of the report; ``README.md`` and ``index.html`` there compare the networks.
        baseline: network that mCE is relative to among those of its task; without it the first of each task.

    Raises:
        VoclabError: a baseline that is not there, or a file that cannot be written.
    """
    folder, pages = Path(folder), []
    if baseline is not None and baseline not in measured:
        raise VoclabError(f"The baseline {baseline} is not among {', '.join(measured)}; name one of them.")
    for network in tested:
        pages += _robustness_page(network, measured[network.name], dataset, folder / network.name)
    facts, page = next(iter(measured.values())).facts, Page(folder, f"Data: {data_title(dataset.name)}.")
    for segmenters in (False, True):
        part = {name: m for name, m in measured.items() if m.segmenter == segmenters}
        if not part:
            continue
        found = robustness.overview(part, baseline if baseline in part else None)
        measure = (
            "Dice: mean over foreground classes." if segmenters else "Accuracy: the top class is a true one."
        )
        kept = "" if segmenters else " Answers kept: under the ten perturbations of the consistency study."
        page.table(
            found.table.apply(
                lambda c: c.map(lambda v: "–" if pd.isna(v) else f"{v:.1f}" if "%" in c.name else f"{v:.3f}")
            ),
            "segmenters" if segmenters else "classifiers",
            title="Segmenters" if segmenters else "Classifiers",
            caption=f"{measure} Under noise, blurred: means over those perturbations. mCE: mean corruption"
            " error over ImageNet-C's fifteen corruptions and five severities relative to"
            f" {found.baseline} (Hendrycks & Dietterich 2019); relative mCE: the same of what is lost against"
            f" clean images. Under 100 % is better than that network.{kept} {' '.join(found.notes)}",
            links={name: name for name in part},
        )
    introduction = (
        f"Measured on {facts['images']} images of {_named(dataset)}, attacks on {facts['attacked']}, seed"
        f" {facts['seed']}. A name leads to the page of that network."
    )
    return [*write_page(folder, "Robustness", introduction, [page.chapter({})]), *pages]


def _robustness_page(network: Network, m: Measured, dataset: Dataset, folder: Path) -> Sequence[Path]:
    """The page of one network; figures of an earlier one that were not drawn again are dropped."""
    name, what = network.name, "mean Dice" if m.segmenter else "top class right (share)"
    images, error = f"{m.facts['images']} images", "1 - Dice" if m.segmenter else "share of wrong answers"
    data = _named(dataset)
    page = Page(folder, f"Data: {data}; network: {m.facts['model']}.")
    page.figure(
        plotting.condition_scores({name: m.scores}, what),
        "conditions",
        title=f"{name} under perturbations and attacks",
        caption=f"Measured on {images}; attacks, which use the network's gradient, on {m.facts['attacked']}.",
        alt=f"Dots: {what} of {name} under each perturbation and attack",
    )
    means = " Precision, recall, F1: means over classes. ECE: expected calibration error."
    page.table(
        m.conditions.drop(columns="images")
        .assign(images=m.conditions["images"].astype(str))
        .rename(columns=_HEADINGS),
        "conditions",
        title="The same in numbers",
        caption="Attack success: share of what was right (for segmenters: of the Dice) that is lost to the"
        f" attack or perturbation.{'' if m.segmenter else means}",
    )
    page.figure(
        plotting.severity_panels(robustness.corruption_panels(m), error),
        "corruptions",
        title=f"{name} under ImageNet-C's corruptions",
        caption=f"Error over severity, {images}. Fifteen corruptions of four families (Hendrycks &"
        " Dietterich 2019).",
        alt=f"Four panels of lines: error of {name} over severity for each corruption",
    )
    page.table(
        robustness.error_table(m),
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
            title=f"Is {name} calibrated?",
            caption="On clean images, under strong noise, and where the calibration error is largest.",
            alt="Observed frequency over predicted probability under several conditions",
        )
    if m.consistency is not None:
        kept = "Share of images whose top class, right or wrong, stays the same"
        _add_dots(
            page,
            {name: m.consistency},
            ("kept", f"Consistency of the answers of {name}", f"{kept}, with 95 % intervals over images."),
            ("features", f"Similarity of the features of {name}", _SIMILARITY),
        )
    _add_versions(page, network, m, dataset.spread(m.facts["images"]))
    record = {
        "question": f"Which perturbations and attacks hurt {name}, and how much?",
        "answer": robustness.text(name, m),
        "data": f"{data}: {dataset.source}",
        "model": f"{m.facts['model']}, images of {m.facts['size']} pixels",
        "seed": m.facts["seed"],
    }
    page.close(record)
    introduction = f"One network under perturbations, corruptions and attacks, on {images} of {data}."
    return write_page(folder, f"Robustness of {name}", introduction, [page.chapter(record)])


def _add_versions(page: Page, network: Network, m: Measured, dataset: Dataset) -> None:
    """One image beside its perturbed versions, with what the network says of each."""
    name, found = dataset.ids[m.example], versions(network, dataset, m.example, m.facts["seed"])
    if m.segmenter:
        pairs = zip(found.images, found.maps)
        figure = plotting.image_grid(
            [p for image, mask in pairs for p in (image, plotting.overlay(image, mask))],
            [t for title in found.titles for t in (title, "its labels")],
            columns=6,
        )
        for axis, mask in zip(figure.axes[1::2], found.maps):
            plotting.name_regions(axis, mask, dataset.class_names)
        plotting.mask_legend(figure, found.maps, dataset.class_names)
        title = f"{network.name} on {name}"
        caption = "The image and its perturbed versions with the labels given to them."
    else:
        figure = plotting.perturbed_versions(found.images, found.titles, found.said, found.kept)
        title = f"{network.name} on {name}: {sum(found.kept[1:])} of {len(CONSISTENCY)} answers kept"
        caption = _VERSIONS
    page.figure(
        figure,
        "versions",
        title=title,
        caption=f"{caption} A typical image, chosen by a rule and not by hand.",
        alt=f"{name} and its perturbed versions with what {network.name} says",
        images=True,
    )


def _frame(first: str, rows: Mapping[str, Sequence[str]], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows.values()), pd.Index(rows, name=first), columns)


def _named(dataset: Dataset) -> str:
    return f"{data_title(dataset.name)}, {dataset.split}"


def _interval(row: pd.Series, measure: str) -> str:
    """A mean with its interval: shares as percent, similarities with three decimals."""
    values = row[[measure, f"{measure} low", f"{measure} high"]]
    percent = measure == "kept"
    mean, low, high = (f"{100 * value:.1f}" if percent else f"{value:.3f}" for value in values)
    mean += " %" * percent
    return mean if np.isnan(values.iloc[1]) else f"{mean} [{low}, {high}]"


def _interval_note(images: int) -> str:
    if images == 1:
        return "One image has no interval."
    note = "In brackets: 95 % bootstrap intervals over images."
    return note + (f" They are too narrow for so few images (under {_FEW})." if images < _FEW else "")


def _images(study: Study) -> str:
    count, data = study.facts["images"], f"{data_title(study.facts['data'])} {study.facts['split']}".strip()
    return f"one image, {study.ids[0]}" if count == 1 else f"{count} images of {data}"


def _published() -> str:
    shares = ", ".join(f"{name} {_percent(share)}" for name, share in PUBLISHED.items())
    return f"A published table on one image, with other strengths, gave {shares}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
