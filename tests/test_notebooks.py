import ast
import json
import os
import pty
import subprocess
import sys
import termios
import threading

import nbformat
import psutil
import pytest

from voclab import terminal
from voclab.errors import VoclabError
from voclab.reporting import notebooks

STARTUP = """\
2026-01-02 03:04:05.678901: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.
2026-01-02 03:04:05.678901: E external/local_xla/xla/stream_executor/cuda/cuda_fft.cc:477] Unable to register cuFFT factory
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
E0000 00:00:1767323045.678901    4711 cuda_dnn.cc:8310] Unable to register cuDNN factory
W0000 00:00:1767323045.678901    4711 computation_placer.cc:177] computation placer already registered.
I0000 00:00:1767323045.678901    4711 service.cc:148] XLA service 0x7f initialized for platform Host
To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the appropriate compiler flags.
"""  # noqa: E501 - as TensorFlow prints it
KEPT = "2026-01-02 03:04:05.6: W tensorflow/core/cpu_allocator.cc:84] Allocation exceeds 10%.\nUserWarning\n"


def test_the_command_line_leaves_out_the_same(capfd):
    with terminal.without_startup_notes():
        os.write(2, (STARTUP + KEPT).encode())
    assert capfd.readouterr().err == KEPT
    os.write(2, STARTUP.encode())
    assert capfd.readouterr().err == STARTUP


def cell(source: str, *tags: str):
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)} if tags else {})


def write(root, name: str, *cells) -> str:
    """A notebook in root/notebooks; returns its text as it lies there."""
    (root / "notebooks").mkdir(exist_ok=True)
    path = root / "notebooks" / f"{name}.ipynb"
    path.write_text(nbformat.writes(nbformat.v4.new_notebook(cells=list(cells))) + "\n")
    return path.read_text()


def run(root, which: str, parameters=None, **options):
    return notebooks.run(
        which, parameters=parameters or {}, notebooks_dir=root / "notebooks", progress=False, **options
    )


def texts(notebook) -> dict[str, str]:
    """What the cells printed, by stream name."""
    found = {}
    for one in notebook.cells:
        for output in one.get("outputs", []):
            if output.output_type == "stream":
                found[output.name] = found.get(output.name, "") + output.text
    return found


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """One execution that most tests look at: (root, notebook, path, text of the source before, after)."""
    root = tmp_path_factory.mktemp("root with space")
    before = write(
        root,
        "01_first",
        nbformat.v4.new_markdown_cell("# The question\n\ntext"),
        cell("profile = 'demo'\ndata = None\nseed: int = 0\nepsilon = seed / 2", "parameters"),
        cell("import json, os, sys\nresult = {'profile': profile, 'data': data, 'seed': seed}"),
        cell("result |= {'cwd': os.getcwd(), 'executable': sys.executable}\nprint(json.dumps(result))"),
        cell("for step in range(4):\n    print(f'\\rstep {step}', end='', flush=True)\nprint()"),
        cell(f"sys.stderr.write({STARTUP!r})"),
        cell(f"os.write(2, ({STARTUP!r} + {KEPT!r}).encode());"),
        cell("import matplotlib; matplotlib.get_backend()"),
    )
    # A kernel of that name from elsewhere, as users have them, and a backend that would swallow figures.
    kernel = root / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "elsewhere", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(root / "jupyter"))
        patch.setenv("MPLBACKEND", "Agg")
        patch.delenv("PYTEST_CURRENT_TEST")  # with it ipykernel does not capture what C code prints
        path = run(root, "01", {"profile": "it's", "data": root / "images", "seed": 7})
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return root, notebook, path, before, (root / "notebooks" / "01_first.ipynb").read_text()


def test_a_run_leaves_the_notebook_alone_and_gives_its_cells_the_parameters(executed):
    root, notebook, path, before, after = executed
    assert path == root / "runs" / "notebooks" / "01_first.ipynb"
    assert before == after
    assert not list(path.parent.glob("*.failed.ipynb"))
    given = {"profile": "it's", "data": str(root / "images"), "seed": 7}
    first, *others = texts(notebook)["stdout"].splitlines()
    printed = json.loads(first)
    assert given.items() <= printed.items()
    assert others == ["step 3"]  # of progress the last state alone
    assert [c.source for c in notebook.cells] == [
        c.source for c in nbformat.reads(before, as_version=4).cells
    ]
    assert notebook.metadata["voclab"] == {"parameters": given}
    # The kernel is this interpreter at the root, and figures would show whatever the environment says.
    assert os.path.realpath(printed["cwd"]) == os.path.realpath(root)
    assert printed["executable"] == sys.executable
    assert "inline" in notebook.cells[-1].outputs[0].data["text/plain"]


def test_startup_litter_goes_and_real_warnings_stay(executed):
    notebook = executed[1]
    assert texts(notebook)["stderr"] == KEPT
    silent = next(c for c in notebook.cells if c.source.startswith("sys.stderr"))
    assert [output.output_type for output in silent.outputs] == ["execute_result"]


def test_saved_notebook_has_no_timing_and_counts_from_one(executed):
    code = [c for c in executed[1].cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    assert not any("execution" in c.metadata for c in code)
    assert "language_info" not in executed[1].metadata  # it holds the Python version of the machine


def test_in_place_runs_on_the_embedded_data_and_repeats_exactly(tmp_path):
    parameters = cell("data = 'auto'\nseed = 0", "parameters")
    before = write(tmp_path, "02_second", parameters, cell("print(data, seed)\n{'b', 'a', 'c'}"))
    path = run(tmp_path, "02", {"seed": 3}, in_place=True)
    first = path.read_text()
    assert path == tmp_path / "notebooks" / "02_second.ipynb"
    assert first != before
    assert texts(nbformat.reads(first, as_version=4))["stdout"] == "embedded 3\n"
    run(tmp_path, "02", {"seed": 3, "data": "embedded"}, in_place=True)
    assert path.read_text() == first


def test_a_notebook_says_what_kind_of_data_it_is_about(tmp_path):
    for name, metadata in (("01_images", {}), ("02_images", {"voclab": {"images": True}})):
        notebook = nbformat.v4.new_notebook(metadata=metadata)
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(nbformat.writes(notebook))
    suited = {
        (which, data): notebooks.suits(which, data, tmp_path / "notebooks")
        for which in ("01", "02")
        for data in ("voc2009", "cifar10", "folder")
    }
    fitting = [pair for pair, suits in suited.items() if suits]
    assert fitting == [("01", "voc2009"), ("02", "cifar10"), ("02", "folder")]


@pytest.mark.parametrize("options", [{"in_place": True}, {"output": "notebooks/copy.ipynb"}])
def test_other_data_is_refused_among_the_notebooks(tmp_path, monkeypatch, options):
    before = write(tmp_path, "01_first", cell("data = None", "parameters"), cell("open('ran', 'w')"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VoclabError, match="may only show the embedded data"):
        run(tmp_path, "01", {"data": "../shared/voc2009"}, **options)
    assert (tmp_path / "notebooks" / "01_first.ipynb").read_text() == before
    assert os.listdir(tmp_path / "notebooks") == ["01_first.ipynb"]
    assert not (tmp_path / "ran").exists()


def test_failing_cell_keeps_what_ran_and_leaves_the_notebook(tmp_path):
    before = write(
        tmp_path,
        "01_first",
        cell("x = 1", "parameters"),
        cell("print('reached')\n\ndef divide():\n    return x / 0\n\ndivide()"),
        nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("stream", text="of an earlier run")]),
    )
    with pytest.raises(VoclabError) as caught:
        run(tmp_path, "01", {"x": 5}, in_place=True)
    failed = tmp_path / "runs" / "notebooks" / "01_first.failed.ipynb"
    for said in ("ZeroDivisionError: division by zero", "print('reached')", str(failed)):
        assert said in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert (tmp_path / "notebooks" / "01_first.ipynb").read_text() == before
    notebook = nbformat.read(failed, as_version=4)
    assert [output.output_type for output in notebook.cells[1].outputs] == ["stream", "error"]
    assert notebook.cells[2].outputs == []


def test_own_error_is_passed_on_as_one_sentence_and_success_clears_the_failed_copy(tmp_path, capfd):
    write(
        tmp_path,
        "03_third",
        nbformat.v4.new_markdown_cell("## Load"),
        cell(
            "from voclab.errors import VoclabError\nimport os\nos.write(2, b'noise of a library\\n')\n"
            "if not os.path.exists('mended'):\n    raise VoclabError('list.txt is missing; restore it.')"
        ),
    )
    with pytest.raises(VoclabError) as caught:
        notebooks.run("03", parameters={}, notebooks_dir=tmp_path / "notebooks")
    assert str(caught.value) == "list.txt is missing; restore it."
    (line,) = capfd.readouterr().err.splitlines()
    assert line.split()[:3] == ["03_third", "[1/1]", "Load"]
    failed = tmp_path / "runs" / "notebooks" / "03_third.failed.ipynb"
    assert failed.exists()
    (tmp_path / "mended").touch()
    run(tmp_path, "03_third.ipynb", output=tmp_path / "elsewhere" / "third.ipynb")
    assert (tmp_path / "elsewhere" / "third.ipynb").exists()
    assert not failed.exists()


def test_on_a_terminal_a_long_cell_shows_what_it_prints_last(tmp_path, monkeypatch):
    source = "import os\nfor k in range(3):\n    print(f'\\repoch {k}, ' + 60 * '.', end='', flush=True)\n"
    source += f"os.write(2, {STARTUP.encode()!r})\nprint('\\rdone')"
    write(tmp_path, "01_first", nbformat.v4.new_markdown_cell("## Training"), cell(source))
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 40))
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        path = notebooks.run("01", parameters={}, notebooks_dir=tmp_path / "notebooks")
        said = os.read(ours, 100_000).decode()
    os.close(ours)
    first, *lives, last = said.removesuffix("\r\n").split("\r")
    assert first.split() == ["01_first", "[1/1]", "Training"]
    assert last.split()[:3] == ["01_first", "[1/1]", "Training"]
    assert last.endswith(" s")
    assert "01_first [1/1] epoch 2, ...............\x1b[K" in lives  # in one line of 40 columns
    assert lives[-1] == "01_first [1/1] done\x1b[K"
    assert "oneDNN" not in said
    assert "done" in texts(nbformat.read(path, as_version=4))["stdout"]


def test_cell_that_kills_its_kernel_and_cell_that_takes_too_long(tmp_path):
    dying = f"import os\nos.write(2, {STARTUP.encode()!r} + b'Check failed: size >= 0\\n')\nos._exit(1)"
    write(tmp_path, "01_dies", cell(dying))
    with pytest.raises(VoclabError, match=r"its process died.*:\n(?s:.*)Check failed: size >= 0\n") as caught:
        run(tmp_path, "01")
    assert "oneDNN" not in str(caught.value)
    write(tmp_path, "02_hangs", cell("import threading\nthreading.Event().wait()"))
    with pytest.raises(VoclabError, match="took longer than allowed"):
        run(tmp_path, "02", timeout=1)
    assert (tmp_path / "runs" / "notebooks" / "02_hangs.failed.ipynb").exists()


def test_notebooks_are_found_by_prefix(tmp_path):
    for name in ("01_first", "02_second", "02_third"):
        write(tmp_path, name, cell("1"))
    folder = tmp_path / "notebooks"
    assert notebooks.available(folder) == ["01_first", "02_second", "02_third"]
    for which in ("04", "", "02"):
        with pytest.raises(VoclabError, match="01_first, 02_second, 02_third"):
            run(tmp_path, which)
    with pytest.raises(VoclabError, match="root of the repository"):
        notebooks.available(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"epsilom": 1}, r'01_first\.ipynb has no parameter "epsilom"; its parameters are: epsilon, seed\.'),
        ({"epsilon": float("nan")}, "epsilon .* cannot be nan"),
        ({"seed": object()}, "seed .* cannot be <object"),
    ],
)
def test_wrong_parameters_are_named(tmp_path, parameters, sentence):
    write(tmp_path, "01_first", cell("epsilon = 0.1\nseed: int = 0\nprint(seed)", "parameters"))
    with pytest.raises(VoclabError, match=sentence):
        run(tmp_path, "01", parameters)


EMPTY = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", ""),
        ("[]", ""),
        ("[" * 100_000, "recursion"),
        ({**EMPTY, "nbformat": 3}, "it has format 3, and format 4 is read"),
        ({**EMPTY, "nbformat_minor": 5.5}, ""),
        ({**EMPTY, "cells": [{}]}, ""),
        ({**EMPTY, "metadata": {"voclab": 3}}, ""),
    ],
)
def test_damaged_notebook_is_named(tmp_path, content, reason):
    write(tmp_path, "01_first", cell("1"))
    content = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "notebooks" / "01_first.ipynb").write_text(content)
    with pytest.raises(VoclabError, match=rf"01_first\.ipynb is not a readable notebook \(.*{reason}"):
        run(tmp_path, "01")


def test_importing_the_runner_does_not_import_tensorflow_or_jupyter():
    code = "import sys, voclab.reporting.notebooks; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"tensorflow", "keras", "nbclient", "ipykernel"} & set(ast.literal_eval(loaded))


def test_ctrl_c_ends_the_kernel_and_changes_nothing(tmp_path):
    source = "import os, signal, threading\nopen('pid', 'w').write(str(os.getpid()))\n"
    source += "os.kill(os.getppid(), signal.SIGINT)\nthreading.Event().wait()"
    before = write(tmp_path, "01_first", cell(source))
    # Started in the background, as CI may do, a process inherits that SIGINT is ignored.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from voclab.reporting import notebooks; notebooks.run('01', parameters={}, in_place=True)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "\nKeyboardInterrupt" in done.stderr  # older clients of kernels complain after it
    assert (tmp_path / "notebooks" / "01_first.ipynb").read_text() == before
    assert ended(int((tmp_path / "pid").read_text()))


def ended(pid: int) -> bool:
    """Whether a process comes to its end; one that nobody has waited for yet has."""
    for _ in range(600):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        threading.Event().wait(0.1)
    return False
