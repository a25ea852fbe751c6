"""The page of ``voclab sweep``: its trials as a table, and two figures."""

from pathlib import Path

import pandas as pd

from voclab import plotting
from voclab.experiments.options import option
from voclab.experiments.search import Plan
from voclab.experiments.sweep import SCORE, STATE, WHY
from voclab.files import atomic_path
from voclab.reporting.page import Page, data_title, write_page
from voclab.text import markdown

_TITLES = {SCORE: "", STATE: "state", WHY: "why it failed"}


def sweep_report(table: pd.DataFrame, score: str, plan: Plan, folder: Path) -> list[Path]:
    """Write ``trials.csv``, ``README.md``, the same as ``index.html``, and their figures; returns the paths.

    Args:
        table: what :func:`voclab.experiments.sweep.sweep` returns.
        score: the name of its score.
        plan: what was searched.
        folder: of the sweep.
    """
    with atomic_path(folder / "trials.csv") as temporary:
        table.to_csv(temporary)
    first = plan.first()
    page = Page(folder, f"Data: {data_title(Path(first['dataset']).name)}.", numbered=False)
    label, done = f"validation {score}", table[table[SCORE].notna()]
    best_first = table.sort_values(SCORE, ascending=False).astype({name: object for name in plan.searched})
    page.table(
        best_first.map(_cell).rename(columns={**_TITLES, SCORE: label}),
        "trials",
        title="Trials, the best first",
        caption="Each is a run in the folder of that name. The score is that of its best epoch on validation"
        " images; that of the best of many trials is too optimistic, so judge it on the test set.",
    )
    if len(done):
        page.figure(
            plotting.sweep_history(table[SCORE], label),
            "score",
            title="Score over the trials",
            caption="A dot is a trial, in the order in which they began; the line is the best score so far."
            " The first ten are random.",
            alt=f"{label} of each trial and the best so far",
        )
        page.figure(
            plotting.sweep_settings(done, plan.searched, label),
            "settings",
            title="Score over each setting",
            caption="Ringed: the best trial. Other settings vary too: no panel alone shows an effect.",
            alt=f"{label} of each trial over {', '.join(plan.searched)}",
        )
    fixed = {name: value for name, value in first.items() if name not in plan.searched and value is not None}
    page.text(
        "What all trials have in common",
        "\n".join(f"- {markdown(option(name))} {markdown(str(value))}" for name, value in fixed.items()),
    )
    counts = ", ".join(f"{n} {state}" for state, n in table[STATE].value_counts().items())
    introduction = f"{len(table)} trials of {', '.join(plan.searched)}: {counts}. Seed {first['seed']}."
    written = write_page(folder, f"Sweep {folder.name}", introduction, [page.chapter({})])
    return [folder / "trials.csv", *written, *page.images]


def _cell(value):
    """Numbers in full where three decimals would hide them."""
    return f"{value:.4g}" if isinstance(value, float) and value == value else value
