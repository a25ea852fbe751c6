"""Trainings at the same time: what they leave, and who ends with whom."""

import os
import select
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from typing import ClassVar

import pytest

from voclab.data.splits import fit_validation
from voclab.errors import VoclabError
from voclab.losses import CrossEntropy
from voclab.models.prediction import TestTime
from voclab.processes import Workers, cores
from voclab.training import Experiment, Parts, Recipe, Run, run, run_all
from voclab.training.classification import Classification
from voclab.training.segmentation import Segmentation

pytestmark = pytest.mark.slow

RECIPE = Recipe(32, "none", 2, 1e-3, batch_size=8)
FIRST = Experiment("first", Classification(), "small_cnn", RECIPE)
SECOND = replace(FIRST, name="second", start="first")
THIRD = replace(FIRST, name="third", recipe=replace(RECIPE, seed=1))


@pytest.fixture
def data(squares):
    return Parts(*fit_validation(squares, 0.25, 0), squares)


def test_experiments_trained_at_the_same_time_leave_what_they_leave_one_by_one(data, tmp_path):
    lines = []
    together = run_all([SECOND, THIRD, FIRST], data, tmp_path / "a", progress=lines.append, processes=2)
    assert list(together) == ["second", "third", "first"]
    assert any("2 networks" in line for line in lines)
    assert any(line.startswith("third: epoch 2/2") for line in lines)
    for experiment in (FIRST, SECOND, THIRD):
        alone = run(experiment, data, tmp_path / "b", progress=lambda line: None)
        there = together[experiment.name]
        assert there.complete
        assert there.config == alone.config
        for ours, theirs in zip(there.history[1:], alone.history[1:], strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)  # by the number of threads


def test_what_is_complete_is_read_back_and_only_what_changed_is_trained(data, tmp_path):
    run_all([FIRST, THIRD], data, tmp_path, progress=lambda line: None, processes=2)
    lines = []
    changed = replace(THIRD, recipe=replace(THIRD.recipe, epochs=1))
    run_all([FIRST, changed], data, tmp_path, progress=lines.append, processes=2)
    assert [line.partition(":")[0] for line in lines if ": epoch " in line] == ["third"]
    assert any(line.startswith("first: complete, read from") for line in lines)


def test_what_one_of_them_cannot_read_stops_all_with_its_sentence(data, tmp_path):
    def unreadable(i):
        raise VoclabError("image_7.jpg is cut off; restore the file.")

    broken = Parts(replace(data.fit, read_image=unreadable), data.validation, data.test)
    with pytest.raises(VoclabError, match=r"image_7.jpg is cut off"):
        run_all([FIRST, THIRD], broken, tmp_path, progress=lambda line: None, processes=2)
    assert not Run(tmp_path / "first").complete
    run_all([FIRST, THIRD], data, tmp_path, progress=lambda line: None, processes=2)
    assert Run(tmp_path / "first").complete


def waits(progress):
    progress(str(os.getpid()))
    threading.Event().wait()


def tells_cores(progress):
    progress(os.environ["TF_NUM_INTRAOP_THREADS"])


def fails(progress):
    raise ZeroDivisionError("by hand")


def test_each_process_has_its_share_of_the_cores():
    lines = []
    with Workers(2, lines.append) as workers:
        workers.begin("a", tells_cores)
        assert workers.busy
        assert workers.free
        assert workers.ended() == "a"
    assert lines == [str(max(1, cores() // 2))]


def test_an_error_comes_with_where_it_happened():
    with Workers(1, print) as workers:
        workers.begin("a", fails)
        with pytest.raises(ZeroDivisionError, match="by hand") as raised:
            workers.ended()
    assert "in fails" in "".join(raised.value.__notes__)


def test_a_process_that_is_killed_is_named():
    def kill(line):
        os.kill(int(line), signal.SIGKILL)

    with Workers(1, kill) as workers:
        workers.begin("scratch", waits)
        with pytest.raises(VoclabError, match="worked on scratch was ended from outside"):
            workers.ended()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(how):
    script = (
        "import signal, test_together as t\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored below a shell's `&`
        "with t.Workers(1, lambda line: print(line, flush=True)) as workers:\n"
        "    workers.begin('a', t.waits)\n"
        "    workers.ended()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    worker = os.pidfd_open(int(parent.stdout.readline()))
    parent.send_signal(how)
    ended = select.poll()
    ended.register(worker, select.POLLIN)
    assert ended.poll(60_000)
    parent.wait()


class Own(CrossEntropy):
    """A loss that says which process computes it."""

    seen: ClassVar[set] = set()

    def call(self, y_true, y_pred):
        self.seen.add(os.getpid())
        return super().call(y_true, y_pred)


def test_a_loss_of_your_own_is_trained_in_this_process(data, tmp_path):
    recipe = replace(RECIPE, epochs=1)
    small = {"width": 4, "depth": 1}
    named = Experiment("named", Segmentation(TestTime((32,))), "unet", recipe, options=small)
    experiments = [replace(named, name="own", loss=Own()), named, replace(named, name="again")]
    runs = run_all(experiments, data, tmp_path, progress=lambda line: None, processes=2)
    assert all(run.complete for run in runs.values())
    assert Own.seen == {os.getpid()}
