"""A folder of numbered figures and tables with the texts that a gallery shows beside them."""

import re
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from voclab.files import make_folder, write_json
from voclab.plotting.base import save
from voclab.text import plain


class FigureFolder:
    """Figures and tables in the order in which they are added: what one notebook, or one page, shows.

    A figure is ``<nn>_<name>.png`` (and ``.svg``) with its texts in ``<nn>_<name>.json``, a table
    ``<nn>_<name>.table.json``; ``run.json`` says how they came about.

    Args:
        path: the folder; it is made.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        make_folder(self.path)
        self._written: set[str] = {"run.json"}
        self._shown = 0

    def figure(self, figure: Figure, name: str, *, images: bool = False, **texts) -> Path:
        """Save a figure; returns its PNG.

        Args:
            figure: what to save.
            name: file name, to which its number is added.
            images: whether it consists of images.
            texts: title, caption, alt and so on, see :func:`voclab.plotting.save`.
        """
        path = self._next(name)
        self._written |= {path.name + suffix for suffix in (".png", ".json", *(() if images else (".svg",)))}
        return save(figure, path, images=images, **texts)

    def table(self, frame: pd.DataFrame, name: str, *, title: str, caption: str) -> pd.DataFrame:
        """Save a table; returns it with its numbers as they are shown.

        Args:
            frame: index and columns have names for people; floats are shown with three decimals.
            name: file name.
            title: heading.
            caption: what to see in it.
        """
        flat = frame.reset_index()
        columns = [plain(column) for column in flat.columns]
        rows = [[_cell(value) for value in row] for row in flat.itertuples(index=False)]
        path = self._next(name)
        self._written.add(f"{path.name}.table.json")
        write_json(
            path.with_name(f"{path.name}.table.json"),
            {"title": title, "caption": caption, "columns": list(columns), "rows": rows},
        )
        return pd.DataFrame(rows, columns=columns)

    def close(self, record: dict) -> None:
        """Write the record, and drop figures of an earlier run that were not drawn again.

        Args:
            record: question, answer, data and so on, see :func:`voclab.reporting.gallery.write`.
        """
        write_json(self.path / "run.json", record)
        for file in self.path.iterdir():
            if re.match(r"\d\d_.*\.(png|svg|json)$", file.name) and file.name not in self._written:
                file.unlink()

    def _next(self, name: str) -> Path:
        self._shown += 1
        return self.path / f"{self._shown:02d}_{name}"


def _cell(value) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.3f}"
    return plain(value)
