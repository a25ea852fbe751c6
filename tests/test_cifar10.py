"""CIFAR-10's formats, read and written, and ToyCIFAR."""

import hashlib
import os
import pickle
import shutil

import numpy as np
import pytest
from voc_trees import fails, write_batch

from toyvoc import cifar as toycifar
from voclab.data import cifar10, find, load


def some(n=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8), rng.integers(0, 10, n)


def python_batch(images, labels, protocol=2, **changes):
    """A batch of the Python distribution."""
    data = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
    content = {b"batch_label": b"one", b"data": data, b"labels": [int(k) for k in labels], b"filenames": []}
    return pickle.dumps(content | changes, protocol)


# The bytes that Python 2 wrote: str for every key, no _codecs.
OLD = (
    b"\x80\x02}q\x00(U\x04dataq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85"
    b"U\x01b\x87Rq\x04(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06(K\x03U\x01|NNN"
    b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00"
)
OLD_END = b"tbU\x06labels]K\x07au."


def test_a_record_is_a_label_and_three_planes(tmp_path):
    record = bytes([7]) + bytes([1]) * 1024 + bytes([2]) * 1024 + bytes(range(256)) * 4
    (tmp_path / "test_batch.bin").write_bytes(record)
    images, labels = cifar10.read_batch(tmp_path / "test_batch.bin")
    assert labels.tolist() == [7]
    assert images.shape == (1, 32, 32, 3)
    assert images[0, :, :, 0].max() == images[0, :, :, 0].min() == 1
    assert images[0, 5, 9, 1] == 2
    assert images[0, :, :, 2].ravel().tolist() == list(range(256)) * 4


def test_a_batch_as_python_2_wrote_it(tmp_path):
    planes = np.arange(3072, dtype=np.uint16).astype(np.uint8)
    (tmp_path / "test_batch").write_bytes(OLD + planes.tobytes() + OLD_END)
    images, labels = cifar10.read_batch(tmp_path / "test_batch")
    assert labels.tolist() == [7]
    np.testing.assert_array_equal(images[0].transpose(2, 0, 1).ravel(), planes)


RESAVED = {
    "the archive's": lambda c: c,
    "text keys": lambda c: {k.decode(): v for k, v in c.items()},
    "array of labels": lambda c: c | {b"labels": np.array(c[b"labels"])},
    "big end first": lambda c: c | {b"labels": np.array(c[b"labels"], ">i4")},
    "columns first": lambda c: c | {b"data": np.asfortranarray(c[b"data"])},
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", RESAVED)
def test_batches_that_people_saved_again_are_the_same(tmp_path, kind, protocol):
    images, labels = some()
    data = pickle.dumps(RESAVED[kind](pickle.loads(python_batch(images, labels))), protocol)
    wanted = {data}
    if protocol < 4:  # as NumPy 1 and 2 write it; in later protocols names have a length
        wanted = {data.replace(b"numpy._core", b"numpy.core"), data.replace(b"numpy.core", b"numpy._core")}
    for data in wanted:
        (tmp_path / "data_batch_1").write_bytes(data)
        read = cifar10.read_batch(tmp_path / "data_batch_1")
        np.testing.assert_array_equal(read[0], images)
        np.testing.assert_array_equal(read[1], labels)
        assert read[0].dtype == read[1].dtype == np.uint8


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, print, np.load, getattr])
def test_a_pickle_that_calls_something_is_refused_before_it_does(tmp_path, function, capsys):
    flag = tmp_path / "flag"
    argument = f"touch {flag}" if function is os.system else f"open({str(flag)!r}, 'w')"
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": Hostile(function, argument), b"labels": []}, 2))
    fails("data_batch_1 is no batch.*asks for", cifar10.read_batch, path)
    assert not flag.exists()
    assert capsys.readouterr().out == ""


def packed(data=None, labels=(1, 2), **more):
    data = np.zeros((2, 3072), np.uint8) if data is None else data
    return pickle.dumps({b"data": data, b"labels": list(labels)} | more, 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "pickle exhausted"),
        (python_batch(*some())[:-400], "is no batch"),
        (pickle.dumps({b"labels": [1]}, 2), "it has no 'data'"),
        (packed(np.zeros((2, 3072))), "of type f8"),
        (packed(np.full((2, 3072), 256)), r"not \(n, 3072\) bytes"),
        (packed(labels=[1, 99]), "label 99"),
        (packed(labels=[[1], [2]]), "whole numbers"),
        (packed(labels=[1]), "2 images and 1 labels"),
        (packed(fine_labels=[1, 2]), "one of CIFAR-100"),
    ],
)
def test_a_damaged_python_batch_is_one_sentence(tmp_path, content, words):
    (tmp_path / "data_batch_1").write_bytes(content)
    fails(words, cifar10.read_batch, tmp_path / "data_batch_1")


def test_a_damaged_binary_batch_is_one_sentence(tmp_path):
    path = tmp_path / "data_batch_1.bin"
    fails("data_batch_1.bin is missing", cifar10.read_batch, path)
    for content in (b"", b"\1" * 3072, b"\1" * 3074):
        path.write_bytes(content)
        fails("data_batch_1.bin has .* bytes, which are not whole records", cifar10.read_batch, path)
    path.write_bytes(b"\1" * 3074 * 5)
    fails("records of 3073 but of 3074, as CIFAR-100 has them", cifar10.read_batch, path)
    path.write_bytes(b"\x0a" + b"\1" * 3072)
    fails("label 10", cifar10.read_batch, path)


@pytest.fixture
def published(tmp_path):
    """Batches of 4 in a folder as the archive lays them out."""
    folder = tmp_path / "data" / "cifar-10-batches-bin"
    for k, name in enumerate(cifar10.BATCHES):
        write_batch(folder / f"{name}.bin", *some(4, k))
    (folder / "batches.meta.txt").write_text("\n".join(cifar10.CIFAR10_CLASSES))
    return tmp_path / "data"


def test_all_batches_are_one_data_set(published):
    for root in (published, published / "cifar-10-batches-bin"):
        train, test = (load("cifar10", root, split) for split in ("train", "test"))
        assert (len(train), len(test)) == (20, 4)
        assert train.task == "multiclass"
        assert train.ids[5] == "data_batch_2/1"
        images, labels = some(4, 1)
        np.testing.assert_array_equal(train.image(5), images[1])
        np.testing.assert_array_equal(train.labels[4:8].argmax(1), labels)
        assert (train.labels.sum(1) == 1).all()
        assert not train.has_masks
        np.testing.assert_array_equal(test.image(3), some(4, 5)[0][3])
    fails("no split 'val'", load, "cifar10", published, "val")
    fails("holds no data_batch_1.*voclab data fetch cifar10", cifar10.read, published.parent, "train")
    (published / "cifar-10-batches-bin" / "batches.meta.txt").write_text("one\ntwo")
    fails("names 2 classes", load, "cifar10", published, "train")


def test_a_second_download_is_no_batch(published):
    folder = published / "cifar-10-batches-bin"
    before = load("cifar10", published, "train")
    for name in ("data_batch_1 (1).bin", "data_batch_1(1).bin", "data_batch_2 - Copy.bin"):
        shutil.copy(folder / "data_batch_1.bin", folder / name)
    train = load("cifar10", published, "train")
    assert (len(train), train.ids) == (20, before.ids)
    (folder / "data_batch_4.bin").unlink()
    assert "without data_batch_4" in load("cifar10", published, "train").source
    assert "without" not in load("cifar10", published, "test").source


def test_names_of_classes_have_lines_of_their_own(published):
    path = published / "cifar-10-batches-bin" / "batches.meta.txt"
    names = ("traffic light", *cifar10.CIFAR10_CLASSES[1:])
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*names, ""]).encode())
    assert load("cifar10", published, "train").class_names == names
    path.write_text("\n".join(["cat"] * 10))
    fails("names 1 classes", load, "cifar10", published, "train")


@pytest.mark.parametrize("layout", ["cifar-100-python", "cifar-100-binary"])
def test_cifar_100_is_refused_by_its_name(tmp_path, layout):
    folder = tmp_path / layout
    folder.mkdir()
    for name in (
        ("train", "test", "meta") if "python" in layout else ("train.bin", "test.bin", "fine_label_names.txt")
    ):
        (folder / name).write_bytes(b"\1" * 3074)
    for root in (tmp_path, folder):
        fails("holds CIFAR-100, which is not read here", find, root)
        fails("holds CIFAR-100, which is not read here", cifar10.read, root, "train")
    fails("not in", find, "cifar10", base=tmp_path)


def test_the_python_layout_is_read_too(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for k, name in enumerate(cifar10.BATCHES):
        (folder / name).write_bytes(python_batch(*some(4, k)))
    train = load("cifar10", tmp_path, "train")
    assert (len(train), train.ids[5], train.class_names) == (20, "data_batch_2/1", cifar10.CIFAR10_CLASSES)


def test_it_is_found_where_it_is_named(published, tmp_path):
    places = {"base": published, "kaggle_input": tmp_path / "none"}
    assert find("cifar10", **places).root == published
    assert find(published, **places).name == "cifar10"
    assert find(**places).name == "toyvoc"
    places["base"] = tmp_path / "none"
    fails("voclab data fetch cifar10", find, "cifar10", **places)
    drawn = toycifar.make_toycifar(tmp_path / "drawn", train=20, test=10, progress=False)
    assert find(drawn, **places).name == "toycifar"
    places["base"] = tmp_path / "drawn"
    fails("not in", find, "cifar10", **places)  # drawn images are not taken for it
    assert "generated in" in find("toycifar", **places).why


def test_drawn_images_are_a_genuine_tree(tmp_path):
    root = toycifar.make_toycifar(tmp_path / "toycifar", train=40, test=20, progress=False)
    train, test = (load("toycifar", root, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (40, 20)
    assert train.labels.sum(0).tolist() == [4] * 10
    assert train.class_names == toycifar.CLASSES
    assert train.name == "toycifar"
    images = np.stack([d.image(i) for d in (train, test) for i in range(len(d))])
    assert images.std() > 20
    assert len({image.tobytes() for image in images}) == 60
    again = toycifar.make_toycifar(tmp_path / "again", train=40, test=20, progress=False)
    other = toycifar.make_toycifar(tmp_path / "other", seed=1, train=40, test=20, progress=False)

    def state(folder):
        files = sorted((folder / "cifar-10-batches-bin").glob("*.bin"))
        return [hashlib.sha256(f.read_bytes()).hexdigest() for f in files]

    assert state(again) == state(root)
    assert not set(state(other)) & set(state(root))


def test_drawing_goes_on_after_a_kill(tmp_path, monkeypatch):
    root = tmp_path / "drawn"

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(toycifar, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            toycifar.make_toycifar(root, train=10, test=10, progress=False)
    toycifar.make_toycifar(root, train=20, test=10, progress=False)
    assert len(load("toycifar", root, "train")) == 20
    with monkeypatch.context() as patch:
        patch.setattr(toycifar, "_draw", killed)
        toycifar.make_toycifar(root, train=20, test=10, progress=False)  # there already


def test_the_real_records(shared):
    train, test = (load("cifar10", shared / "cifar10", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (5085, 1017)
    assert train.class_names == cifar10.CIFAR10_CLASSES
    assert train.labels.sum(0).min() > 400

    # Frogs are green, ships and aeroplanes blue: the planes are in the right order.
    def colours(name):
        chosen = np.flatnonzero(train.labels[:, train.class_names.index(name)])
        return np.mean([train.image(i).mean((0, 1)) for i in chosen], 0)

    assert colours("ship").argmax() == colours("airplane").argmax() == 2
    assert colours("frog")[1] > colours("frog")[2]
