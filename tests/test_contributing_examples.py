"""What CONTRIBUTING.md shows as additions works when it is added."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from voclab import losses
from voclab.attacks import Network, gradient
from voclab.data.base import VOID, Dataset
from voclab.models import backbones

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)


def example(word, module):
    """What the block with that word defines, as if it stood in the module."""
    (block,) = (block for block in BLOCKS if word in block)
    assert len([line for line in block.splitlines() if line]) <= 10
    names = dict(vars(module)) if module else {"Path": Path, "np": np, "Image": Image, "Dataset": Dataset}
    exec(block, names)
    return names[word]


def test_the_backbone():
    (line,) = (block for block in BLOCKS if "ResNet101" in block)
    ((name, (builder, mode)),) = eval("{" + line + "}").items()
    assert name not in backbones.BACKBONES
    network = getattr(keras.applications, builder)(include_top=False, weights=None, input_shape=(32, 32, 3))
    assert network.output_shape[-1] == 2048
    assert backbones.PixelPreprocessing(mode).mode == "caffe"


def test_the_loss():
    loss = example("MeanAbsoluteError", losses)()
    logits = np.log(np.array([[[[0.7, 0.3], [0.5, 0.5], [0.9, 0.1]]]], np.float32))
    truth = np.array([[[0, 1, VOID]]], np.uint8)
    assert float(loss(truth, logits)) == pytest.approx((0.3 + 0.5) / 2, abs=1e-5)


def test_the_attack():
    attack = example("HalfStep", gradient)()
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    images = np.full((2, 4, 4, 3), 100 / 255, np.float32)
    perturbed = attack(Network(model, "multiclass"), images, np.array([0, 1]), 8 / 255)
    assert np.abs(np.rint(255 * perturbed) - 100).max() == 4


def test_the_data_set(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (5, 4), (200, 0, 0)).save(tmp_path / "train" / name / f"{name}1.png")
    dataset = example("read", None)(tmp_path, "train")
    assert dataset.class_names == ("cat", "dog")
    assert dataset.labels.tolist() == [[1, 0], [0, 1]]
    assert dataset.image(1).shape == (4, 5, 3)
