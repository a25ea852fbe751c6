"""Executing the notebooks from the command line, with parameters, so that what is saved is clean."""

import ast
import json
import os
import re
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from voclab.data import EMBEDDED, SINGLE_LABEL
from voclab.errors import VoclabError
from voclab.files import write_text
from voclab.terminal import STARTUP_LINE, tell, tell_in_place
from voclab.text import markdown

PARAMETERS_TAG = "parameters"
RUNS_FOLDER = Path("runs") / "notebooks"
DATA_LINE = "**The saved outputs show** {}. A run of your own says below what it took."
_DATA_LINE = re.compile("^" + re.escape(DATA_LINE).replace(r"\{\}", ".*") + "$", re.MULTILINE)

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class _Failure:
    """An error with the cell in which it happened and what the kernel wrote to its own streams."""

    error: Any  # what nbclient raises has ename, evalue and traceback
    cell: NotebookNode
    log: str


def available(notebooks_dir: str | os.PathLike = "notebooks") -> list[str]:
    """Names of the notebooks in ``notebooks_dir``, without ``.ipynb``, in order."""
    folder = Path(notebooks_dir)
    if not folder.is_dir():
        raise VoclabError(f"There is no folder {folder}; run this from the root of the repository.")
    return sorted(path.stem for path in folder.glob("*.ipynb") if not path.name.startswith("."))


def suits(which: str, dataset: str, notebooks_dir: str | os.PathLike = "notebooks") -> bool:
    """Whether a notebook is about data of that name: images of one class, or images of several."""
    notebook = read(find(which, notebooks_dir))
    return bool(notebook.metadata.get("voclab", {}).get("images")) == (dataset in SINGLE_LABEL)


def read(source: Path) -> NotebookNode:
    """The notebook in a file; ``VoclabError`` if it is none."""
    try:
        found = json.loads(source.read_text(encoding="utf-8-sig"))
        if found["nbformat"] != 4:
            raise ValueError(f"it has format {found['nbformat']}, and format 4 is read")
        dict(found["metadata"].get("voclab", {}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about ids of cells, which are given to those without
            nbformat.validate(found, version=4)
            return nbformat.reads(json.dumps(found), as_version=4)
    # What JSON and nbformat raise for a file that is damaged or was never a notebook.
    except (
        OSError, ValueError, TypeError, KeyError, AttributeError, AssertionError, RecursionError,
        nbformat.ValidationError,
    ) as error:  # fmt: skip
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise VoclabError(f"{source} is not a readable notebook ({reason}); restore it with git.") from error


def run(
    which: str,
    *,
    parameters: Mapping[str, Any],
    notebooks_dir: str | os.PathLike = "notebooks",
    output: str | os.PathLike | None = None,
    in_place: bool = False,
    timeout: int | None = None,
    progress: bool = True,
) -> Path:
    """Execute a notebook from top to bottom in a fresh kernel of this interpreter; return what was written.

    The kernel works in the folder that holds ``notebooks_dir``. ``parameters`` override assignments of
    the cell tagged ``parameters`` and are recorded in the notebook's metadata under ``voclab``.

    Args:
        which: name of a notebook or the beginning of it ("01", "01_classification").
        parameters: values of JSON types (or paths) by name; only names that the tagged cell assigns.
        notebooks_dir: folder of the notebooks.
        output: where the executed notebook goes; by default ``runs/notebooks/<name>.ipynb``.
        in_place: overwrite the notebook itself, on the embedded data only: other images must not get into a
            committed notebook.
        timeout: seconds that one cell may take; ``None`` for any time.
        progress: print a line per cell, with its time, on standard error. On a terminal, what the cell
            prints is shown in that line while it runs.

    Raises:
        VoclabError: unknown notebook or parameter, ``in_place`` with other data, or a cell that failed.
            The notebook as far as it ran is then in ``runs/notebooks/<name>.failed.ipynb`` and the
            earlier result is untouched. A ``VoclabError`` of a cell is passed on as it is.
    """
    source = find(which, notebooks_dir)
    root = source.parent.parent
    if in_place and output is not None:
        raise VoclabError(f"{source.name} can be run in place or written to {output}, not both; choose one.")
    target = source if in_place else Path(output or root / RUNS_FOLDER / source.name)
    failed = root / RUNS_FOLDER / f"{source.stem}.failed.ipynb"

    notebook = read(source)
    index, declared = _parameters_cell(notebook, source)
    values = _checked_values(parameters, declared, source)
    if target.resolve().is_relative_to(source.parent.resolve()):
        values = _embedded_data_only(values, declared, target)

    for cell in _code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    notebook.metadata.setdefault("voclab", {})["parameters"] = values
    injected = None
    if values:
        given = "\n".join(f"{name} = {value!r}" for name, value in values.items())
        injected = nbformat.v4.new_code_cell(given)
        notebook.cells.insert(index + 1, injected)
    report = _Progress(source.stem, notebook, injected) if progress else None
    try:
        failure = _execute(notebook, root, timeout, report)
    finally:
        if injected is not None:
            notebook.cells.remove(injected)
    _tidy(notebook)
    _name_data(notebook)
    if failure is not None:
        write_text(failed, nbformat.writes(notebook) + "\n")
        saved = f"The notebook as far as it ran is in {failed}."
        raise VoclabError(_explain(failure, source.stem, saved)) from failure.error
    write_text(target, nbformat.writes(notebook) + "\n")
    failed.unlink(missing_ok=True)
    return target


def find(which: str, notebooks_dir: str | os.PathLike = "notebooks") -> Path:
    """The notebook whose name is ``which`` or begins so; ``VoclabError`` if there is not exactly one."""
    names = available(notebooks_dir)
    wanted = Path(which).name.removesuffix(".ipynb")
    matches = [wanted] if wanted in names else [name for name in names if wanted and name.startswith(wanted)]
    if len(matches) != 1:
        found = "no notebook" if not matches else "more than one notebook"
        raise VoclabError(
            f'"{which}" names {found} of {notebooks_dir}; there is: {", ".join(names) or "none"}.'
        )
    return (Path(notebooks_dir) / f"{matches[0]}.ipynb").absolute()


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _parameters_cell(notebook: NotebookNode, source: Path) -> tuple[int, list[str]]:
    """Index of the cell tagged ``parameters`` and the names that it assigns; (-1, []) without one."""
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and PARAMETERS_TAG in cell.metadata.get("tags", []):
            try:
                nodes = ast.walk(ast.parse(cell.source))
            except SyntaxError as error:
                raise VoclabError(
                    f"The cell tagged {PARAMETERS_TAG} of {source.name} does not hold plain assignments "
                    f"(line {error.lineno}: {error.msg}); restore it with git."
                ) from error
            names = [n for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
            return index, [name.id for name in names]
    return -1, []


def _checked_values(parameters: Mapping[str, Any], declared: list[str], source: Path) -> dict[str, Any]:
    values = {}
    for name, value in parameters.items():
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise VoclabError(f'{source.name} has no parameter "{name}"; its parameters are: {known}.')
        try:
            plain = os.fspath(value) if isinstance(value, os.PathLike) else value
            values[name] = json.loads(json.dumps(plain, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise VoclabError(
                f"Parameter {name} of {source.name} cannot be {value!r}; "
                "give a text, a finite number or a list."
            ) from error
    return values


def _embedded_data_only(values: dict[str, Any], declared: list[str], target: Path) -> dict[str, Any]:
    if values.get("data") not in (None, "", EMBEDDED, "toyvoc", "toycifar"):
        raise VoclabError(
            f"{target} is kept in the repository, so it may only show the embedded data; "
            f"leave out the option that writes there, or the data {values['data']}."
        )
    return values | {"data": values.get("data") or EMBEDDED} if "data" in declared else values


def _execute(
    notebook: NotebookNode, root: Path, timeout: int | None, report: "_Progress | None"
) -> _Failure | None:
    """Run all cells in a new kernel, filling in their outputs; return what ended it too early."""
    from ipykernel.kernelspec import KERNEL_NAME
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    class Client(NotebookClient):
        def create_kernel_manager(self):
            # Without folders to look in, what is left is the kernel of this interpreter: a "python3"
            # that the user registered for another environment would not have our packages.
            specs = KernelSpecManager(kernel_dirs=[])
            options = {"kernel_spec_manager": specs, "connection_file": connection}
            self.km = AsyncKernelManager(kernel_name=KERNEL_NAME, **options)
            return self.km

        def process_message(self, msg, cell, cell_index):
            if report and msg["msg_type"] == "stream":
                report.show(msg["content"]["text"])
            return super().process_message(msg, cell, cell_index)

    handle, connection = tempfile.mkstemp(prefix="voclab-kernel-", suffix=".json")
    os.close(handle)
    client = Client(
        notebook,
        timeout=timeout,
        startup_timeout=180,
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(root)}},
    )
    # The kernel repeats on its own streams what the cells print; it belongs into the notebook only.
    # Cell by cell and not client.execute(): that one turns Ctrl-C into a "dead kernel".
    with (
        tempfile.TemporaryFile() as log,
        client.setup_kernel(env=_environment(), stdout=log, stderr=log),
    ):
        # Both ends have read it; left there, a killed run would never remove it.
        Path(connection).unlink(missing_ok=True)
        client.reset_execution_trackers()
        for index, cell in enumerate(notebook.cells):
            if report:
                report.start(cell)
            try:
                client.execute_cell(cell, index)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                if report:
                    report.stop("failed")
                log.seek(0)
                return _Failure(error, cell, log.read().decode("utf-8", "replace"))
            if report:
                report.stop()
    return None


def _environment() -> dict[str, str]:
    """Environment of the kernel: ours, without what would change the outputs."""
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    environment.setdefault("PYTHONHASHSEED", "0")
    environment.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    # Where tqdm is installed and ipywidgets is not, it warns, naming a folder of this machine.
    filters = "ignore:IProgress not found", environment.get("PYTHONWARNINGS")
    environment["PYTHONWARNINGS"] = ",".join(filter(None, filters))
    return environment


def _tidy(notebook: NotebookNode) -> None:
    """Remove what would differ from run to run without meaning anything."""
    count = 0
    for cell in _code_cells(notebook):
        cell.metadata.pop("execution", None)
        cell.outputs = [output for output in cell.outputs if not _only_startup_litter(output)]
        if cell.execution_count is None:
            continue
        count += 1
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count


def _name_data(notebook: NotebookNode) -> None:
    """Write into the title which data the outputs show, as the cells told (``session.markdown``)."""
    outputs = [output for cell in _code_cells(notebook) for output in cell.outputs]
    told = [output.get("metadata", {}).get("voclab", {}).get("data") for output in outputs]
    title = next((cell for cell in notebook.cells if cell.cell_type == "markdown"), None)
    if title is not None and any(told):
        line = DATA_LINE.format(" and ".join(dict.fromkeys(markdown(name) for name in told if name)))
        title.source = _DATA_LINE.sub(lambda _: line, title.source)


def _only_startup_litter(output: NotebookNode) -> bool:
    """Take TensorFlow's start-up lines out of a standard error stream; true if nothing else was in it."""
    if output.output_type != "stream" or output.name != "stderr":
        return False
    lines = output.text.splitlines(keepends=True)
    output.text = "".join(line for line in lines if not STARTUP_LINE.match(line))
    return not output.text.strip()


def _explain(failure: _Failure, name: str, saved: str) -> str:
    error = failure.error
    ename = getattr(error, "ename", type(error).__name__)
    if ename == VoclabError.__name__:
        return error.evalue
    first = failure.cell.source.strip().partition("\n")[0]
    where = f"{name} failed at the cell that begins with `{first}`"
    if ename == "CellTimeoutError":
        return f"{where}: it took longer than allowed; give it more time or a smaller profile. {saved}"
    if ename == "DeadKernelError":
        where += ": its process died, most likely for lack of memory; try a smaller profile"
        text = "".join(line for line in failure.log.splitlines(True) if not STARTUP_LINE.match(line))
    else:
        text = _ANSI.sub("", error.traceback)
    lines = [f"  {line}" for line in text.splitlines() if line.strip()]
    return "\n".join([f"{where}:" if lines else f"{where}.", *lines[-8:], saved])


class _Progress:
    """One line per code cell on standard error: position, the section it stands in, time taken."""

    def __init__(self, name: str, notebook: NotebookNode, injected: NotebookNode | None):
        shown = [cell for cell in _code_cells(notebook) if cell is not injected and cell.source.strip()]
        self._position = {id(cell): position for position, cell in enumerate(shown, 1)}
        self._total = len(shown)
        self._name = name
        self._section = ""
        self._place = self._line = self._printed = ""
        self._started: float | None = None

    def start(self, cell: NotebookNode) -> None:
        if cell.cell_type == "markdown":
            headings = [line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")]
            self._section = headings[-1] if headings else self._section
        elif id(cell) in self._position:
            self._started = time.monotonic()
            position = f"[{self._position[id(cell)]:>{len(str(self._total))}}/{self._total}]"
            self._place, self._printed = f"{self._name} {position}", ""
            self._line = f"{self._place} {self._section[:48]:<48}"
            tell(self._line, end="")

    def show(self, printed: str) -> None:
        """On a terminal, the last line that the running cell printed, in place of its section."""
        if self._started is not None:
            *ended, self._printed = re.split(r"[\r\n]", self._printed + printed)
            lines = [line.strip() for line in (*ended, self._printed)]
            shown = [line for line in lines if line and not STARTUP_LINE.match(line)]
            if shown:
                tell_in_place(f"{self._place} {shown[-1]}")

    def stop(self, outcome: str = "") -> None:
        if self._started is not None:
            minutes, seconds = divmod(time.monotonic() - self._started, 60)
            taken = f"{minutes:.0f} min {seconds:02.0f} s" if minutes else f"{seconds:.1f} s"
            tell_in_place(self._line)
            tell(f" {taken:>12} {outcome}".rstrip())
            self._started = None
