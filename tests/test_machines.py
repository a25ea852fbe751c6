"""Several machines: what TF_CONFIG may say, and that two of them train the network of one."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import two_machines
from PIL import Image

from toyvoc.voc import make_toyvoc
from voclab import cli
from voclab.data.batches import batch_maker, training_batches
from voclab.errors import VoclabError
from voclab.processes import Cluster, cluster
from voclab.training import Run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Forty small images of two colours, by class, and a few drawn ones with masks."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, colour in {"blue": (60, 70, 190), "red": (200, 70, 60)}.items():
        (root / "classes" / name).mkdir(parents=True)
        for k in range(20):
            pixels = np.clip(rng.normal(colour, 40, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "classes" / name / f"{k:02d}.png")
    make_toyvoc(root / "voc", train=20, val=6, test=2, size=64)
    return root


def free_ports(n):
    """Ports that nobody listened at a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def worker(config, data, folder):
    """The process of one machine."""
    script = Path(two_machines.__file__)
    environment = {
        **os.environ,
        "TF_CONFIG": config,
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return subprocess.Popen(
        [sys.executable, str(script), str(data), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def config(index, ports):
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]}, "task": task})


@pytest.fixture(scope="module")
def together(data, tmp_path_factory):
    """Folders of the runs of the chief and of the other machine, and what each said."""
    ports, folders = free_ports(2), [tmp_path_factory.mktemp(name) for name in ("chief", "other")]
    processes = [worker(config(k, ports), data, folder) for k, folder in enumerate(folders)]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)[-6000:]
    return folders, said


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """Folder of the same runs made by this process."""
    folder = tmp_path_factory.mktemp("alone")
    two_machines.train(data, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classifier", "segmenter"])
def test_two_machines_train_the_network_of_one(name, together, alone):
    (chief, _), _ = together
    ours, theirs = Run(chief / name), Run(alone / name)
    assert len(ours.history) == 3
    for a, b in zip(ours.history, theirs.history, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in b.items() if k != "seconds"}, rel=1e-3, abs=1e-4
        )
    for a, b in zip(ours.load_model().get_weights(), theirs.load_model().get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert ours.config["code"] == theirs.config["code"]


@pytest.mark.slow
def test_only_the_chief_leaves_a_run(together):
    (chief, other), said = together
    assert sorted(path.name for path in chief.iterdir()) == ["classifier", "killed", "segmenter"]
    assert list(other.iterdir()) == []
    assert not (chief / "segmenter" / ".lock").exists()
    assert "classifier: complete, read from" in said[0]
    assert [text.count("segmenter: epoch 2/2") for text in said] == [1, 0]
    assert "classifier: complete; the chief has it." in said[1]


@pytest.mark.slow
def test_a_killed_training_goes_on_with_what_the_chief_kept(together):
    (chief, _), said = together
    resumed, whole = Run(chief / "killed"), Run(chief / "classifier")
    assert said[0].count("killed: epoch 1/2") == 1
    assert [e["loss"] for e in resumed.history[1:]] == pytest.approx([e["loss"] for e in whole.history[1:]])
    for a, b in zip(resumed.load_model().get_weights(), whole.load_model().get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_machines_that_were_asked_for_different_trainings_are_refused_both(together):
    for text in together[1]:
        assert "The machines of TF_CONFIG were not asked for the same training" in text
    assert "here recipe.learning_rate is 0.002 and was 0.001" in together[1][1]


def of(workers, index, role="worker", **more):
    return json.dumps({"cluster": {"worker": workers, **more}, "task": {"type": role, "index": index}})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        (of(["a:1"], 0), None),  # as cloud services set it for one machine
        (of(["a:1", "b:1"], 1), Cluster(2, 1)),
        (of(["a:1", "b:1"], "1"), Cluster(2, 1)),
        (of(["a:1"], 0, "chief", chief=["c:1"]), Cluster(2, 0)),
        (of(["a:1", "b:1"], 0, chief=["c:1"]), Cluster(3, 1)),
    ],
)
def test_what_tf_config_says(text, found, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert cluster() == found


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "{}", "1", of(["a:1", "b:1"], 2), of(["a:1", "b:1"], -1), of(["a:1", "b:1"], "x"),
        of("ab", 0), of({"a:1": 0}, 0), of(["a:1", "b:1"], 1.9),
        of(["a", "b:1"], 0), of(["a:1", "a:1"], 0), of(["a:1"], 0, "ps", ps=["p:1"]),
        of(["a:1"], 0, chief=["c:1", "d:1"]), of([1, 2], 0), of(["a:1", "b:1"], None),
    ],
)  # fmt: skip
def test_a_malformed_tf_config_is_one_sentence_before_keras(text, monkeypatch, capsys):
    monkeypatch.setenv("TF_CONFIG", text)
    assert cli.main(["train", "--dataset", "toycifar", "--model", "resnet8"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("voclab: TF_CONFIG names no workers")


@pytest.mark.parametrize(
    "more", [["--augmentation", "adversarial"], ["--task", "adversary", "--victim", "ready"]]
)
def test_what_takes_one_machine_says_so(more, monkeypatch, capsys):
    monkeypatch.setenv("TF_CONFIG", of(["a:1", "b:1"], 0))
    model = [] if "--task" in more else ["--model", "resnet8"]
    assert cli.main(["train", "--dataset", "toycifar", *model, *more]) == 2
    assert "take one machine; unset TF_CONFIG" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{}, {"mixup": 0.3}, {"target": "masks"}])
def test_the_parts_of_machines_are_the_batch_of_one(options, squares):
    given = {"size": 16, "augmentation": "standard", "batch_size": 8, "seed": 1, "epochs": 1, **options}
    whole = next(iter(training_batches(squares, **given)))
    parts = [next(iter(training_batches(squares, **given, part=(k, 4)))) for k in range(4)]
    for values, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert pieces[0].shape[0] == 2
        np.testing.assert_array_equal(values, np.concatenate(pieces))


def test_each_machine_reads_only_its_own_images(squares):
    read = []
    counted = replace(squares, read_image=lambda i: read.append(i) or squares.image(i))
    make = batch_maker(counted, size=16, augmentation="none", batch_size=8, seed=0, rows=slice(2, 4))
    make(0)
    assert len(read) == 2


def test_a_batch_that_machines_cannot_share_is_refused(squares):
    with pytest.raises(VoclabError, match="8 images a step cannot be shared evenly by 3 machines"):
        training_batches(squares, size=16, augmentation="none", batch_size=8, seed=0, epochs=1, part=(0, 3))
