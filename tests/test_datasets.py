"""Opening data by name, and the order in which data is looked for."""

import json

import pytest
from voc_trees import make_tree

from toyvoc import voc as toyvoc
from voclab.data import SOURCES, Found, count_objects, find, load, vocdevkit
from voclab.errors import VoclabError
from voclab.kaggle.export import export


def voc(root):
    make_tree(root)
    return root


def toy(root):
    make_tree(root)
    (root / "toyvoc.json").write_text(json.dumps({}))
    return root


def competition(root, source):
    make_tree(source)
    parts = (vocdevkit.read(source, split) for split in ("train", "val"))
    return export(*parts, root, progress=False)


@pytest.fixture
def places(tmp_path):
    """Where to look, all of it in the test's folder, so that no real data is found."""
    return {"base": tmp_path / "data", "kaggle_input": tmp_path / "input"}


def test_order_in_which_data_is_found(tmp_path, places):
    base, mounted = places["base"], places["kaggle_input"]

    def found():
        return find(**places)

    assert found() == Found(
        "toyvoc",
        base / "toyvoc",
        f"no data was named and none was found in {base}, so the embedded ToyVOC is generated in"
        f" {base / 'toyvoc'}",
    )
    toy(base / "toyvoc")
    assert (found().name, found().root) == ("toyvoc", base / "toyvoc")
    assert "ToyVOC is read from" in found().why
    voc(base / "pascal")
    assert (found().name, found().root) == ("voc2009", base / "pascal")
    voc(base)
    assert (found().name, found().root) == ("voc2009", base)
    competition(base / "slug", tmp_path / "source")
    assert (found().name, found().root) == ("kaggle", base / "slug")
    competition(mounted / "competitions" / "slug", tmp_path / "source")
    assert (found().name, found().root) == ("kaggle", mounted / "competitions" / "slug")
    competition(mounted / "slug", tmp_path / "source")
    assert (found().name, found().root) == ("kaggle", mounted / "slug")
    assert find("voc2009", **places).root == base
    assert find("toyvoc", **places).root == base / "toyvoc"
    assert find(base / "slug", **places).root == base / "slug"


def test_what_is_named_is_recognised(tmp_path, places):
    voc(tmp_path / "a")
    toy(tmp_path / "b")
    competition(tmp_path / "c", tmp_path / "source")
    competition(tmp_path / "d" / "slug", tmp_path / "source")
    for named, name, root in [
        ("a", "voc2009", "a"),
        ("a/VOCdevkit/VOC2009", "voc2009", "a/VOCdevkit/VOC2009"),
        ("b", "toyvoc", "b"),
        ("c", "kaggle", "c"),
        ("d", "kaggle", "d/slug"),
    ]:
        found = find(str(tmp_path / named), **places)
        assert (found.name, found.root) == (name, tmp_path / root)
        assert found.why.startswith(f"{tmp_path / named} was named")
        split = SOURCES[found.name].test_split
        assert len(load(found.name, found.root, split)) == 4


@pytest.mark.parametrize("named", ["voc2009", "kaggle"])
def test_named_but_not_there(named, places):
    with pytest.raises(VoclabError, match=rf"{named} was named, but .*voclab data fetch {named}.*\.$"):
        find(named, **places)


def test_unknown_layout_is_refused(tmp_path, places):
    with pytest.raises(VoclabError, match=r"is no folder with VOCdevkit/VOC20xx, .*; correct the name\.$"):
        find(tmp_path, **places)
    for named in (tmp_path / "nowhere", "imagenet"):
        with pytest.raises(VoclabError, match=r"There is no folder .*choose one of toyvoc, toycifar, kaggle"):
            find(named, **places)


def test_what_a_killed_process_began_is_no_data(tmp_path, places, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    toy, exported = places["base"] / "my drawn", tmp_path / "exported"
    lists = toyvoc._write_lists
    with monkeypatch.context() as stop:
        stop.setattr(toyvoc, "_write_lists", lambda *given: killed(lists(*given)))
        with pytest.raises(KeyboardInterrupt):
            toyvoc.make_toyvoc(toy, train=2, val=1, test=1, size=64, progress=False)
    assert (toy / "VOCdevkit" / "VOC2009" / "ImageSets" / "Main" / "train.txt").is_file()
    with pytest.raises(VoclabError, match=r"`voclab data make --root .*my drawn` did not finish; give"):
        find(toy, **places)
    assert find(**places).name == "toyvoc"
    toyvoc.make_toyvoc(toy, train=2, val=1, test=1, size=64, progress=False)
    assert find(toy, **places).name == "toyvoc"

    train = load("toyvoc", toy, "train")
    with monkeypatch.context() as stop:
        stop.setattr("voclab.kaggle.export.write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            export(train, train, exported, progress=False)
    with pytest.raises(VoclabError, match=r"`voclab data export --to .*exported` did not finish; give"):
        find(exported, **places)
    export(train, train, exported, progress=False)
    assert find(exported, **places).name == "kaggle"


def test_objects_are_counted_where_annotations_are(tmp_path):
    voc(tmp_path / "voc")
    competition(tmp_path / "kaggle", tmp_path / "source")
    labels = load("voc2009", tmp_path / "voc").labels
    assert count_objects("voc2009", tmp_path / "voc") == tuple(labels.sum(1))  # one of each class
    assert count_objects("kaggle", tmp_path / "kaggle") is None


def test_toyvoc_is_generated_once(tmp_path, monkeypatch):
    made = []

    def make_toyvoc(root):
        made.append(root)
        return toy(root)

    monkeypatch.setattr(toyvoc, "make_toyvoc", make_toyvoc)
    for split, n in (("train", 6), ("val", 4)):
        data = load("toyvoc", tmp_path / "toy", split)
        assert (data.name, len(data)) == ("toyvoc", n)
    assert made == [tmp_path / "toy"]


def test_a_part_of_a_data_set_is_spread_over_its_list(squares):
    assert squares.spread(4).ids == ("square_00", "square_16", "square_31", "square_47")
    assert squares.spread(0) is squares
    assert squares.spread(100) is squares
