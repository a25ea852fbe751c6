"""Several machines: what TF_CONFIG may say, and that two of them train the network of one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import two_machines
from PIL import Image

from toyvoc.voc import make_toyvoc
from voclab import cli
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
    command = ["train", "--dataset", str(data / "classes"), *two_machines.CLASSIFIER.split()]
    assert cli.main([*command, "--name", "classifier", "--runs", str(folder)]) == 0
    two_machines.segmenter(data / "voc", folder, "segmenter")
    return folder


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
