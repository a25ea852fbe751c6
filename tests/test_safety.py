"""Files that mean harm: those that carry code never run it, those that would take all memory are refused."""

import io
import json
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
import zlib

import h5py
import keras
import numpy as np
import pytest
from PIL import Image
from test_damage import bounded_memory, needs_proc
from voc_trees import fails

from voclab.data import cifar10, decoding, masks
from voclab.data import competition as kaggle
from voclab.data.archives import unpack
from voclab.files import read_arrays
from voclab.models.backbones import build_backbone
from voclab.training import Run, load_model


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return os.system, (f"touch {self.flag}",)


@pytest.fixture
def flag(tmp_path):
    """A path; the test fails if there is a file at its end, which only a payload makes."""
    path = tmp_path / "harm"
    yield path
    assert not path.exists()


def test_the_payload_would_do_harm(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "harm")))
    assert (tmp_path / "harm").exists()


def test_no_data_file_executes_code(tmp_path, flag):
    harm = np.array([Payload(flag)], dtype=object)
    for name in ("image.npy", "mask.npy"):
        np.save(tmp_path / name, harm, allow_pickle=True)
    fails("not a plain .npy array", decoding.load_image, tmp_path / "image.npy")
    fails("not a plain .npy array", kaggle.load_mask, tmp_path / "mask.npy")
    np.savez(tmp_path / "predictions.npz", logits=harm)
    fails("no readable .npz file", read_arrays, tmp_path / "predictions.npz")
    fails("no readable .npz file", Run(tmp_path).predictions)
    for name in ("predictions.npz", "data_batch_1"):
        (tmp_path / name).write_bytes(pickle.dumps(Payload(flag)))
    fails("no readable .npz file", Run(tmp_path).predictions)
    fails("asks for posix.system", cifar10.read_batch, tmp_path / "data_batch_1")


def lambda_model(flag):
    def harm(x):
        import os

        os.system(f"touch {path}")
        return x

    path = str(flag)
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Lambda(harm, output_shape=(4,))(inputs))


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_no_model_file_executes_code(tmp_path, flag, name):
    lambda_model(flag).save(tmp_path / name)
    flag.unlink(missing_ok=True)  # building the model called the layer
    fails("cannot be loaded|no .keras file", load_model, tmp_path / name)


@pytest.mark.parametrize(
    "harm",
    [
        {"module": "os", "class_name": "system", "config": "touch {flag}"},
        {"module": "builtins", "class_name": "eval", "config": "open('{flag}', 'w')"},
        {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", "{flag}"]}},
        {"module": "builtins", "class_name": "function", "config": "system", "registered_name": "function"},
    ],
)
def test_no_configuration_of_a_model_names_code(tmp_path, flag, harm):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2, name="last")(inputs)).save(tmp_path / "sound.keras")
    harm = json.loads(json.dumps(harm).replace("{flag}", str(flag)))
    for place in ("model", "layer", "initializer"):
        with (
            zipfile.ZipFile(tmp_path / "sound.keras") as sound,
            zipfile.ZipFile(tmp_path / "model.keras", "w") as bad,
        ):
            for name in sound.namelist():
                data = sound.read(name)
                if name == "config.json":
                    config = json.loads(data)
                    layers = config["config"]["layers"]
                    if place == "model":
                        config |= harm
                    elif place == "layer":
                        layers[-1] |= harm
                    else:
                        layers[-1]["config"]["kernel_initializer"] = harm
                    data = json.dumps(config)
                bad.writestr(name, data)
        fails("model.keras cannot be loaded", load_model, tmp_path / "model.keras")


@pytest.mark.parametrize("name", ["a.weights.h5", "a.npy", "a.pkl", "a.keras"])
def test_no_weights_file_executes_code(tmp_path, flag, name):
    (tmp_path / name).write_bytes(pickle.dumps(Payload(flag)))
    fails("does not fit backbone", build_backbone, "cnn", str(tmp_path / name), width=2)


# --- files that would take all memory ---


def jpeg(width, height):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def png(width, height, colours=0):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(10**6))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gif(width, height):
    buffer = io.BytesIO()
    Image.new("P", (16, 16)).save(buffer, "GIF")
    data = bytearray(buffer.getvalue())
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


@needs_proc
@pytest.mark.parametrize(
    ("data", "decode"),
    [
        (jpeg(15000, 11000), decoding.decode),  # Pillow and OpenCV would both decode that one
        (png(15000, 11000), masks.decode),
        (png(15000, 11000, colours=6), decoding.decode),
        (gif(65000, 65000), decoding.decode),
    ],
)
def test_a_image_that_declares_a_giant_size_is_refused(tmp_path, data, decode):
    path = tmp_path / "giant.image"
    path.write_bytes(data)
    assert len(data) < 10_000
    tracemalloc.start()
    with bounded_memory():
        fails("giant.image declares .*; shrink or remove it", decode, path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10**7


def npy_header(shape, kind="|u1"):
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@needs_proc
@pytest.mark.parametrize("shape", [(10**6, 10**6, 3), (2**62, 2**62, 3), (10**30, 1, 3), (-1, 2, 3)])
def test_an_array_that_declares_a_giant_shape_is_refused(tmp_path, shape):
    (tmp_path / "image.npy").write_bytes(npy_header(shape) + bytes(100))
    with zipfile.ZipFile(tmp_path / "predictions.npz", "w") as archive:
        archive.writestr("logits.npy", npy_header(shape) + bytes(100))
    with bounded_memory():
        fails("not a plain .npy array", decoding.load_image, tmp_path / "image.npy")
        fails("no readable .npz", read_arrays, tmp_path / "predictions.npz")


@needs_proc
def test_a_tar_header_that_expands_to_gigabytes_is_refused(tmp_path):
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        path = tmp_path / "bomb.tar.gz"
        member = tarfile.TarInfo("name")
        member.type, member.size = kind, 2**33
        squeezed = zlib.compressobj(9, wbits=31)
        with open(path, "wb") as file:
            file.write(squeezed.compress(member.tobuf()) + squeezed.compress(bytes(2**22)) + squeezed.flush())
        with bounded_memory():
            fails("damaged archive", unpack, path, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def nested(depth):
    """A list that is ``2 ** depth`` numbers long when it is written out, in a few bytes of pickle."""
    found = [1, 1]
    for _ in range(depth):
        found = [found, found]
    return found


@needs_proc
@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (b"\x80\x02}r\xff\xff\xff\x7f.", "stores its object number"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.", "is no batch"),
        (pickle.dumps({b"data": np.zeros((2, 3072), "u1"), b"labels": nested(40)}, 2), "is no batch"),
    ],
)
def test_a_pickle_that_asks_for_gigabytes_is_refused(tmp_path, packed, words):
    path = tmp_path / "data_batch_1"
    path.write_bytes(packed.replace(b"numpy._core", b"numpy.core"))
    with bounded_memory():
        fails(words, cifar10.read_batch, path)


@needs_proc
def test_weights_that_declare_a_giant_shape_are_refused(tmp_path):
    path = tmp_path / "a.weights.h5"
    model = build_backbone("cnn", None, width=2)
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        del file[names[0]]
        file.create_dataset(names[0], (2**20, 2**20), "f4", chunks=(1024, 1024))
    with bounded_memory():
        fails("does not fit backbone", build_backbone, "cnn", str(path), width=2)
