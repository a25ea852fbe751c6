"""`voclab attack`: photos in which networks see something else, the ready ones and some that are known."""

import importlib.resources
import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from colour_networks import COLOURS, colour_classifier, colour_segmenter, painted
from PIL import Image
from voc_trees import content, fails

from voclab import cli
from voclab.app import attack as attacking
from voclab.app import demo
from voclab.app import predict as predicting
from voclab.attacks.target import GOALS
from voclab.cli import attack as command
from voclab.data.decoding import decode
from voclab.data.images import eight_bit
from voclab.models import ready
from voclab.models.generator import BOUNDS

needs_litert = pytest.mark.skipif(not find_spec("ai_edge_litert"), reason="needs ai-edge-litert")


@pytest.fixture(scope="module")
def answering():
    """What `voclab predict` is for the ready networks, for those that know colours."""
    classifier, segmenter = colour_classifier(), colour_segmenter()

    def look(image):
        pixels = eight_bit(image[None])
        return 1 / (1 + np.exp(-classifier.logits(pixels)[0])), segmenter.logits(pixels)[0].argmax(-1)

    return predicting.Answering(look, "Keras", "colours", COLOURS, np.full(3, 0.5), places=True)


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(painted("red", (180, 270))).save(tmp_path / "red.png")
    return tmp_path / "red.png"


def attack(answering, method="pgd", victim="classifier", epsilon=4, **goal):
    network = {"classifier": colour_classifier, "segmenter": colour_segmenter}[victim]()
    method = {name.lower(): attack for name, attack in attacking.ATTACKS.items()}[method]
    victims = attacking.VICTIMS[victim]
    return attacking.Attacking(method, victims, replace(network, size=96), answering, epsilon, **goal)


def run(capsys, *arguments):
    """(exit status, standard output, standard error) of the command."""
    capsys.readouterr()
    status = cli.main(["attack", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


# --- an image ---


def test_what_is_written_fools_those_who_read_it_and_stays_within_the_bound(answering, photo, tmp_path):
    outcome = attack(answering)(photo)
    assert outcome.fooled
    assert outcome.before.present[0] == "red" not in outcome.after.present
    assert outcome.image.shape == outcome.clean.shape == (64, 96, 3)  # in proportion, sides multiples of 32
    assert np.abs(outcome.image.astype(int) - outcome.clean).max() == 4
    text = outcome.text()
    assert text.startswith(
        f"before {outcome.before.text()}. After {outcome.after.text()}. Classifier fooled; "
    )
    assert "No value changes by more than 4 of 255 (PSNR " in text
    attacking.write(outcome, tmp_path / "new" / "attacked.png", "voclab attack")
    np.testing.assert_array_equal(decode(tmp_path / "new" / "attacked.png"), outcome.image)
    again = predicting.predict(answering, tmp_path / "new" / "attacked.png")
    assert again.as_dict() == outcome.after.as_dict()


def test_noise_of_the_same_size_does_not_fool(answering, photo):
    outcome = attack(answering, "noise")(photo)
    assert outcome.fooled is False
    assert "Classifier not fooled; " in outcome.text()
    assert outcome.as_dict()["largest_change"] == 4


def test_of_a_segmenter_the_pixels_count(answering, tmp_path):
    Image.new("RGB", (60, 60), (145, 120, 120)).save(tmp_path / "pale.png")  # just red enough
    outcome = attack(answering, "fgsm", "segmenter", 16)(tmp_path / "pale.png")
    assert outcome.before.regions == {"red": 1}
    assert "red" not in outcome.after.regions
    assert (outcome.fooled, outcome.changed) == (None, 1)
    assert ". 100 % of the pixels get another label. " in outcome.text()


@pytest.mark.parametrize("goal", ["appear", "vanish"])
def test_a_goal_is_reached_where_there_is_something_to_reach(goal, answering, photo):
    there, other = ("green", "red") if goal == "appear" else ("red", "green")
    outcome = attack(answering, epsilon=8, goal=goal, class_name=there)(photo)
    assert outcome.fooled
    assert (there in outcome.after.present) == (goal == "appear")
    words = "red is seen already" if goal == "appear" else "no green seen"
    fails(f"red.png .*{words}", attack(answering, goal=goal, class_name=other), photo)


def test_a_segmenters_goal_is_a_label(answering, photo):
    outcome = attack(answering, "fgsm", "segmenter", 16, goal="vanish", class_name="red")(photo)
    red = outcome.before.labels == 1 + COLOURS.index("red")
    changed = (outcome.image != outcome.clean).any(-1)
    assert 0 < red.mean() < 1
    assert changed[red].all()
    assert not changed[~red].any()  # what is not of the class does not count


def test_a_classifier_is_not_fooled_out_of_what_only_the_segmenter_saw(answering, photo):
    unseen = replace(answering, look=lambda image: (np.array([0.1, 0.9, 0.1]), answering.look(image)[1]))
    both = replace(attack(unseen, "noise", epsilon=0), victims=attacking.VICTIMS["both"])
    outcome = replace(both, goal="vanish", class_name="red")(photo)
    assert outcome.before.regions["red"] > 0.01
    assert (outcome.before.present, outcome.fooled) == (("green",), None)


def test_without_a_bound_nothing_changes(answering, photo):
    outcome = attack(answering, epsilon=0)(photo)
    assert outcome.text().endswith("0 % of the pixels get another label. Nothing was changed.")
    assert (outcome.as_dict()["psnr"], outcome.as_dict()["changed"]) == (None, 0)


# --- the command ---


@pytest.fixture
def colours(answering, monkeypatch):
    """The command attacks the networks that know colours."""

    def opened(method, victim, epsilon, goal, class_name):
        return attack(answering, method, victim, epsilon, goal=goal, class_name=class_name)

    monkeypatch.setattr(attacking, "open_attacking", opened)


def test_a_folder_with_a_damaged_image(colours, photo, tmp_path, capsys):
    folder, out = photo.parent, tmp_path / "out"
    Image.fromarray(painted("blue")).save(folder / "blue.jpg")
    (folder / "cut.png").write_bytes(photo.read_bytes()[:200])
    status, said, err = run(capsys, folder, "--method", "pgd", "--to", out)
    assert status == 2
    assert [line.partition(": before ")[0] for line in said.splitlines()] == [
        str(folder / name) for name in ("blue.jpg", "red.png")
    ]
    assert re.search(rf"^voclab: {folder / 'cut.png'} is a damaged image", err, flags=re.M)
    assert (
        f"pgd changed 2 of 2 images and fooled the classifier on 2; the changed images are in {out}\n" in err
    )
    assert sorted(path.name for path in out.iterdir()) == ["blue.png", "red.png"]


def test_json_says_what_was_wanted_and_what_was_reached(colours, photo, tmp_path, capsys):
    out = tmp_path / "out"
    given = ("--goal", "vanish", "--class", "red", "--epsilon", "2.5", "--method", "fgsm", "--to", out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ready, "card", lambda: {"class_names": COLOURS})
        status, said, _ = run(capsys, photo, *given, "--json")
    found = json.loads(said)
    (image,) = found.pop("images")
    assert status == 0
    assert found == {
        "method": "fgsm", "epsilon": 2.5, "goal": "vanish", "victim": "classifier", "class": "red",
        "failed": [],
    }  # fmt: skip
    assert image["files"] == {"image": str(out / "red.png")}
    assert image["largest_change"] == 2
    assert (image["fooled"], image["before"]["present"]) == (True, ["red"])
    assert "red" not in image["after"]["present"]


def test_only_what_it_wrote_itself_is_replaced(colours, photo, tmp_path, capsys):
    out = tmp_path / "out"
    for _ in range(2):
        assert run(capsys, photo, "--method", "fgsm", "--to", out)[0] == 0
    Image.fromarray(painted("red")).save(out / "red.png")
    before = content(out)
    status, said, err = run(capsys, photo, "--method", "fgsm", "--to", out)
    assert (status, said) == (2, "")
    assert "red.png is in the way, and `voclab attack` did not write it; move it" in err
    assert content(out) == before


def test_what_comes_into_the_way_meanwhile_is_kept(colours, photo, tmp_path, capsys, monkeypatch):
    """The folder is looked at before the networks are loaded, which takes a while."""
    out = tmp_path / "out"
    opened = attacking.open_attacking

    def slow(*given):
        out.mkdir()
        Image.fromarray(painted("blue")).save(out / "red.png")
        return opened(*given)

    monkeypatch.setattr(attacking, "open_attacking", slow)
    status, _, err = run(capsys, photo, "--method", "fgsm", "--to", out)
    assert status == 2
    assert "red.png is in the way" in err
    np.testing.assert_array_equal(decode(out / "red.png"), painted("blue"))


def test_slips_are_a_sentence_each_before_keras_is_imported(photo):
    slips = {
        ("--epsilon", "17"): "--epsilon is 17; choose a number, 0 or more and at most 16.",
        ("--epsilon", "nan"): "--epsilon is nan; choose a number",
        ("--epsilon", "0.5"): "--epsilon is 0.5; choose a number, 1 or more and at most 16.",
        ("--method", "cw"): "There is no method 'cw'; choose one of generator, fgsm, pgd, noise.",
        ("--victim", "me"): "There is no victim 'me'; choose one of classifier, segmenter, both.",
        ("--method", "pgd", "--victim", "both"): "pgd follows the gradient of one network; choose --victim",
        ("--goal", "vanish"): "--goal and --class belong together",
        ("--class", "cat"): "--goal and --class belong together",
        ("--method", "fgsm", "--goal", "appear", "--class", "cow boy"): "There is no class 'cow boy'; choose",
        ("--method", "noise", "--goal", "appear", "--class", "cow"): "Noise has no goal; leave --goal out",
        ("--method", "fgsm", "nowhere.jpg"): "nowhere.jpg is missing; name an image or a folder of images.",
    }
    code = (
        "import sys; from voclab import cli\n"
        f"for given in {list(slips)}:\n"
        "    assert cli.main(['attack', *given, sys.argv[1]]) == 2\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    given = [sys.executable, "-c", code, str(photo)]
    done = subprocess.run(given, capture_output=True, text=True, check=True)
    for line, words in zip(done.stderr.splitlines(), slips.values(), strict=True):
        assert line.startswith(f"voclab: {words}")


def test_what_can_be_typed_is_what_there_is():
    assert set(command.METHODS) == {attacking.GENERATOR, *(name.lower() for name in attacking.ATTACKS)}
    assert tuple(attacking.VICTIMS) == command.VICTIMS
    assert ("untargeted", *command.GOALS) == GOALS
    assert command.MOST == demo.MOST == BOUNDS[1]


# --- the ready networks ---


@needs_litert
def test_voclab_predict_sees_what_was_promised(tmp_path, capsys):
    cat = importlib.resources.files("skimage.data") / "chelsea.png"
    status, said, _ = run(capsys, cat, "--method", "fgsm", "--epsilon", "8", "--to", tmp_path)
    before, after = re.search(r": before (.*?)\. After (.*?)\. Classifier (?:not )?fooled; ", said).groups()
    assert (status, before[:3]) == (0, "cat")
    assert cli.main(["predict", str(tmp_path / "chelsea.png")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'chelsea.png'}: {after}\n"
    assert after != before
    assert Image.open(tmp_path / "chelsea.png").size == (384, 256)


@needs_litert
@pytest.mark.parametrize(
    ("victim", "bounds"),
    [
        # At 8/255 the cat's probability falls from 0.998 to 0.55, and cat stays the top class.
        ("classifier", {"chelsea": 16, "astronaut": 8}),
        ("segmenter", {"chelsea": 8, "astronaut": 8}),
    ],
)
def test_the_generator_that_comes_with_voclab_fools_its_victims(victim, bounds, tmp_path):
    for name, epsilon in bounds.items():
        run = attacking.open_attacking("generator", victim, epsilon)
        outcome = run(importlib.resources.files("skimage.data") / f"{name}.png")
        assert outcome.fooled is {"classifier": True, "segmenter": None}[victim]
        assert victim == "classifier" or outcome.changed > 0.3
        assert np.abs(outcome.image.astype(int) - outcome.clean).max() <= epsilon
