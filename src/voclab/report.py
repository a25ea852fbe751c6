"""Pages that can be read without running: a Markdown file with tables, its figures, and the same as JSON."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from voclab import figures
from voclab.files import read_json, write_json, write_text
from voclab.robustness import CONSISTENCY, STRENGTHS
from voclab.robustness.consistency import ALL, one_picture
from voclab.studies.consistency import MEASURES, PUBLISHED, Study

_SPREAD = ("nine photos of ten keep", "photos that keep all", "none")
_FEW = 30  # photos; the bootstrap interval of fewer is too narrow


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
    tables, photos = study.tables(), _photos(study)
    apart = len(next(iter(tables.values()))) - len(CONSISTENCY)
    names = ", ".join(tables)
    drawn = [
        figures.save(
            figures.dots_with_intervals(
                tables, {"kept": "photos whose top-1 is kept (%)"}, apart, percent=True
            ),
            folder / "consistency_kept",
            title=f"Which answers stay: {photos}",
            caption="Share of photos whose top class stays the same under each perturbation."
            + _bars(study, " Control: another photo instead of a perturbed version."),
            alt=f"Dots with intervals of {names} for ten perturbations and all together",
        ),
        figures.save(
            figures.dots_with_intervals(
                tables, {key: MEASURES[key] for key in ("cosine", "euclidean")}, apart
            ),
            folder / "consistency_features",
            title=f"Which features stay: {photos}",
            caption="Cosine similarity a·b / (‖a‖ ‖b‖) and Euclidean similarity 1 / (1 + ‖a − b‖ / ‖a‖) of"
            " the last feature map, averaged over places, of a clean photo (a) and its perturbed version (b)."
            + _bars(study, " Control: b is another photo, which says where a network's scale begins."),
            alt=f"Dots with intervals of {names} for ten perturbations and all together",
        ),
    ]
    if study.facts["photos"] > 1:
        marks = {name: PUBLISHED[name] for name in tables if name in PUBLISHED}
        drawn.append(
            figures.save(
                figures.share_distribution(study.kept_shares(), len(CONSISTENCY), marks),
                folder / "consistency_photos",
                title=f"What a single picture would have said: {photos}",
                caption="Photos by the number of perturbations under which their answer stays. Every bar is a"
                f" result that a study of one picture could have published. {_published()}",
                alt=f"Histograms of {names} over the number of answers kept",
            )
        )
    for number, (name, found) in enumerate(study.examples.items(), start=1):
        kept = sum(found.kept[1:])
        drawn.append(
            figures.save(
                figures.perturbed_versions(found.pictures, found.titles, found.said, found.kept),
                folder / f"consistency_versions_{number}_{re.sub(r'[^A-Za-z0-9_-]+', '-', name)}",
                title=f"{name} on {found.photo}: {kept} of {len(found.kept) - 1} answers stay",
                caption="The photo as the network sees it and its perturbed versions with the top class:"
                " green the original's, red another."
                + (" The same photo for all networks, a typical one." if study.facts["photos"] > 1 else ""),
                alt=f"{found.photo} and {len(found.kept) - 1} perturbed versions with what {name} calls them",
                photos=True,
            )
        )
    return drawn


def consistency_text(study: Study) -> str:
    """The page of a study of consistency in Markdown, without its figures."""
    tables, facts = study.tables(), study.facts
    totals = {}
    for name, table in tables.items():
        row, found = table.loc[ALL], one_picture(study.results[name])
        totals[name] = [_cell(row, "kept"), _cell(row, "cosine"), _cell(row, "euclidean")]
        if facts["photos"] > 1:
            totals[name] += [f"{_percent(found['low'])} to {_percent(found['high'])}"]
            totals[name] += [_percent(found["all"]), _percent(found["none"])]
    parts = [
        "# Prediction consistency",
        f"Measured on {_photos(study)} under {len(CONSISTENCY)} perturbations, seed {facts['seed']}. Each"
        " photo is resized to the network's own square and perturbed then. An answer is kept if the top class"
        " stays the same, right or wrong.",
        markdown_table(["network", *MEASURES.values(), *_SPREAD * (facts["photos"] > 1)], totals),
        _interval_note(facts["photos"]),
        "## Where one picture misleads",
        "\n".join(f"- {line}" for line in study.misleading()),
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
        " control, in which another photo takes the place of the perturbed version.",
        "Features are the output of that layer, averaged over places: a of the clean photo, b of the"
        " perturbed one. Cosine similarity is a·b / (‖a‖ ‖b‖). Euclidean similarity is"
        " 1 / (1 + ‖a − b‖ / ‖a‖): 1 for the same features, 1/2 where they differ by their own length."
        " Features are never negative after most activations, so even unrelated photos are alike: read"
        " similarities against the control, and do not rank networks by them.",
        markdown_table(["perturbation", "strength", "what is counted"], settings),
        "Lengths are pixels of the network's input, so the same blur is milder to a network of larger input.",
    ]
    return "\n\n".join(parts)


def write_page(path: Path, text: str, pictures: Sequence[Path] = ()) -> Path:
    """Write a Markdown page, its figures with title and caption at the end; returns its path.

    Args:
        path: of the page.
        text: Markdown.
        pictures: PNGs of :func:`voclab.figures.save` in the same folder.
    """
    parts = [text]
    if pictures:
        parts.append("## Figures")
    for picture in pictures:
        texts = read_json(picture.with_name(picture.stem + ".json"))
        parts.append(f"**{texts['title']}**\n\n![{texts['alt']}]({picture.name})\n\n{texts['caption']}")
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def markdown_table(header: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A Markdown table: a row for each name, with its cells; columns of numbers are put to the right."""
    lines = [[str(cell).replace("|", "\\|") for cell in (name, *cells)] for name, cells in rows.items()]
    rules = ["---:" if all(re.match(r"[-–\d]", cell) for cell in column) else "---" for column in zip(*lines)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rules, *lines))


def _cell(row: pd.Series, measure: str) -> str:
    """A mean with its interval: shares as percent, similarities with two digits."""
    values = [row[measure], row[f"{measure} low"], row[f"{measure} high"]]
    if measure == "kept":
        mean, low, high = (f"{100 * value:.1f}" for value in values)
        mean += " %"
    else:
        mean, low, high = (f"{value:.3f}" for value in values)
    return mean if np.isnan(values[1]) else f"{mean} [{low}, {high}]"


def _interval_note(photos: int) -> str:
    if photos == 1:
        return "One picture has no interval."
    note = "In brackets: 95 % bootstrap intervals over photos."
    return note + (f" They are too narrow for so few photos (under {_FEW})." if photos < _FEW else "")


def _photos(study: Study) -> str:
    count, data = study.facts["photos"], f"{study.facts['data']} {study.facts['split']}".strip()
    return f"one photo, {study.ids[0]}" if count == 1 else f"{count} photos of {data}"


def _bars(study: Study, control: str) -> str:
    several = study.facts["photos"] > 1
    return f" Means with 95 % bootstrap intervals over photos.{control}" if several else ""


def _published() -> str:
    shares = ", ".join(f"{name} {_percent(share)}" for name, share in PUBLISHED.items())
    return f"A published table on one picture, with other strengths, gave {shares}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
