"""The table of what will be trained, the source that a notebook shows, and settings that can be changed."""

from dataclasses import replace

import keras
import pytest

from voclab.experiments import adversary, cifar10, classification, common, robustness, segmentation
from voclab.experiments.common import Profile
from voclab.experiments.overview import recipe_line, runs_table
from voclab.losses import SoftDice
from voclab.models.pretrained import Weights
from voclab.reporting.session import short_source

DEMO = Profile("demo", drawn=True)
WEIGHTS = Weights("efficientnet_lite0", "imagenet", "imagenet", "a test")


def test_the_table_says_what_the_experiments_say():
    listed = segmentation.experiments(segmentation.settings(DEMO), WEIGHTS, seed=5)
    own = replace(
        listed[0], name="mine", loss=keras.losses.Poisson(), recipe=replace(listed[0].recipe, epochs=99)
    )
    table = runs_table([*listed, own])
    assert table.loc["mine", "loss"] == "Poisson"
    assert table.loc["mine", "epochs"] == "99"
    assert table.loc["unet-both", "seeds"].startswith("5, 6")
    assert table.loc["deeplab-tuned", "starts from"] == "deeplab-frozen"
    assert "99 epochs" in recipe_line([own])


def test_a_linear_head_has_no_epochs():
    listed = classification.experiments(classification.settings(DEMO), WEIGHTS, seed=0)
    table = runs_table(listed)
    assert table.loc["head", ["optimizer", "epochs"]].tolist() == ["L-BFGS", ""]
    assert table.loc["scratch", "optimizer"] == "AdamW"


@pytest.mark.parametrize("study", [classification, segmentation, adversary, robustness, cifar10, common])
def test_changing_settings_changes_nothing_else_and_misspelt_ones_are_refused(study):
    first = study.settings(DEMO)
    name = next(iter(type(first).__dataclass_fields__))
    setattr(first, name, "changed")
    assert getattr(study.settings(DEMO), name) != "changed"
    with pytest.raises(AttributeError):
        first.no_such_setting = 1


def test_source_is_that_of_the_object_with_one_line_of_its_docstring():
    shown = short_source(SoftDice)
    assert "2 * common" in shown
    assert "V-Net" not in shown
    compile(shown, "shown", "exec")
