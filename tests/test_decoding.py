"""Image files of every kind: read as they are meant, or refused in one sentence that says why."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features
from voc_trees import fails

from voclab.data import decoding
from voclab.data.decoding import MAX_DECODED

RAMP = np.linspace(0, 65535, 4096).reshape(64, 64)


def png(width, height, bits, colours, samples: bytes, extra: bytes = b"") -> bytes:
    """A PNG that Pillow does not write, such as one of 16 bits a colour."""
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    rows = np.frombuffer(samples, np.uint8).reshape(height, -1)
    pixels = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
    parts = chunk(b"IHDR", header), extra, chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def saved(path, values, **options):
    Image.fromarray(values).save(path, **options)
    return path


def written(path, data: bytes):
    path.write_bytes(data)
    return path


def first(path) -> list[int]:
    return decoding.decode(path)[0, 0].tolist()


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.tif", {}), ("a.tiff", {"compression": "tiff_lzw"})],
)
@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bit_greys_are_scaled(tmp_path, name, options, dtype):
    if name == "a.png" and dtype == ">u2":
        return  # not every Pillow writes that
    image = decoding.decode(saved(tmp_path / name, RAMP.astype(dtype), **options))
    assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)
    assert image.mean() == pytest.approx(127.5, abs=0.1)
    assert image[0, 0].tolist() == [0, 0, 0]
    assert image[-1, -1].tolist() == [255, 255, 255]


def test_16_bit_greys_of_other_programs(tmp_path):
    values = np.array([[65535, 30000]], ">u2").tobytes()
    clear = chunk(b"tRNS", struct.pack(">H", 30000))
    wanted = {
        "a.png": (png(2, 1, 16, 0, values), 117),
        "clear.png": (png(2, 1, 16, 0, values, clear), 255),
        "a.pgm": (b"P5 2 1 65535\n" + values, 117),
        "12.pgm": (b"P5 2 1 4095\n" + struct.pack(">2H", 4095, 1875), 117),
    }
    for name, (data, grey) in wanted.items():
        assert decoding.decode(written(tmp_path / name, data))[0, :, 1].tolist() == [255, grey], name
    inverted = saved(tmp_path / "inverted.tif", RAMP.astype(np.uint16), tiffinfo={262: 0})
    assert first(inverted) == [255, 255, 255]


@pytest.mark.parametrize(
    ("colours", "samples", "rgb"),
    [
        (2, [30000, 60000, 65535], [117, 234, 255]),
        (4, [30000, 65535], [117, 117, 117]),
        (6, [30000, 60000, 65535, 65535], [117, 234, 255]),
    ],
)
def test_16_bit_colours_are_scaled(tmp_path, colours, samples, rgb):
    data = png(1, 1, 16, colours, np.array(samples, ">u2").tobytes())
    assert first(written(tmp_path / "a.png", data)) == rgb


@pytest.mark.parametrize(
    ("bits", "byte", "grey"), [(1, 0b10110000, 255), (2, 0b10110000, 170), (4, 0b10110000, 187)]
)
def test_greys_of_few_bits_are_scaled(tmp_path, bits, byte, grey):
    assert first(written(tmp_path / "a.png", png(1, 1, bits, 0, bytes([byte])))) == [grey] * 3


@pytest.mark.parametrize(("bits", "byte"), [(8, 1), (16, 2)])
def test_planes_one_after_the_other(tmp_path, bits, byte):
    planes = np.random.default_rng(0).integers(0, 2**bits, (3, 4, 5)).astype(f"<u{byte}")
    tags = {256: 5, 257: 4, 258: bits, 259: 1, 262: 2, 277: 3, 278: 4, 284: 2}
    entries = [struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items()]
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    size = planes[0].nbytes
    entries[2] = struct.pack("<HHII", 258, 3, 3, start)
    entries.insert(5, struct.pack("<HHII", 273, 4, 3, start + 6))
    entries.insert(8, struct.pack("<HHII", 279, 4, 3, start + 18))
    tail = struct.pack("<3H", *[bits] * 3) + struct.pack("<3I", *(start + 30 + k * size for k in range(3)))
    data = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)
    path = written(tmp_path / "a.tif", data + tail + struct.pack("<3I", *[size] * 3) + planes.tobytes())
    if bits == 8:
        np.testing.assert_array_equal(decoding.decode(path), planes.transpose(1, 2, 0))
    else:  # Pillow takes them for 8 bits, without a word
        fails(
            "a.tif holds planes of 16 bits, which cannot be read here; save it as PNG", decoding.decode, path
        )


def test_signed_bytes_are_no_greys(tmp_path):
    path = saved(tmp_path / "a.tif", np.full((4, 4), 251, np.uint8), tiffinfo={339: 2})
    fails("a.tif holds signed 8-bit samples", decoding.decode, path)


def test_what_nobody_can_scale_is_refused(tmp_path):
    for name, values in {
        "12-bit.png": np.full((4, 4), 4095, np.uint16),
        "tiny.png": np.full((4, 4), 3, np.uint16),
    }.items():
        fails(
            f"{name} uses only the lowest 12 of its 16 bits", decoding.decode, saved(tmp_path / name, values)
        )
    dark = png(1, 1, 16, 2, np.array([4000, 900, 0], ">u2").tobytes())
    fails("lowest 12", decoding.decode, written(tmp_path / "colours.png", dark))
    assert first(saved(tmp_path / "black.png", np.zeros((4, 4), np.uint16))) == [0, 0, 0]
    for name, values, words in (
        ("map.tif", np.full((4, 4), 812.5, np.float32), "from 812.5 to 812.5"),
        ("negative.tif", np.full((4, 4), -0.5, np.float32), "from -0.5"),
        ("nan.tif", np.full((4, 4), np.nan, np.float32), "from nan"),
        ("between.tif", np.full((4, 4), 3.5, np.float32), "no whole numbers"),
        ("counts.tif", np.full((4, 4), 70000, np.int32), "from 70000"),
    ):
        path = saved(tmp_path / name, values)
        fails(f"{name} holds (float32|int32).*{words}.*8 bits", decoding.decode, path)


@pytest.mark.parametrize(
    ("values", "grey"),
    [(np.float32(0.4), 102), (np.float32(1), 255), (np.float32(77), 77), (np.int32(77), 77)],
)
def test_floats_and_32_bit_numbers(tmp_path, values, grey):
    assert first(saved(tmp_path / "a.tif", np.full((4, 4), values))) == [grey] * 3


@pytest.mark.parametrize(
    ("name", "mode", "colour", "rgb"),
    [
        ("a.tif", "CMYK", (0, 255, 255, 0), [255, 0, 0]),
        ("a.jpg", "CMYK", (0, 255, 255, 0), [254, 0, 0]),
        ("a.png", "LA", (90, 255), [90, 90, 90]),
        ("a.png", "LA", (90, 0), [255, 255, 255]),
        ("a.tif", "PA", (7, 0), [255, 255, 255]),
        ("a.png", "RGBA", (0, 0, 0, 51), [204, 204, 204]),
        ("a.png", "1", 1, [255, 255, 255]),
    ],
)
def test_colours_of_every_kind(tmp_path, name, mode, colour, rgb):
    Image.new(mode, (16, 16), colour).save(tmp_path / name)
    np.testing.assert_allclose(first(tmp_path / name), rgb, atol=2)


def test_transparent_palettes_and_colour_keys_are_white(tmp_path):
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    for name in ("a.png", "a.gif"):
        palette.save(tmp_path / name, transparency=1)
        assert first(tmp_path / name) == [255, 255, 255]
        palette.save(tmp_path / name)
        assert first(tmp_path / name) == [200, 0, 0]
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert first(tmp_path / "key.png") == [255, 255, 255]


@pytest.mark.parametrize("suffix", [s for s in decoding.SUFFIXES if s != ".avif" or features.check("avif")])
def test_every_suffix_is_read(tmp_path, suffix):
    Image.new("RGB", (16, 12), (90, 90, 90)).save(tmp_path / f"a{suffix}")
    assert decoding.is_image_file(tmp_path / f"a{suffix}")
    image = decoding.decode((tmp_path / f"a{suffix}").rename(tmp_path / "a.jpg"))  # by its content
    assert image.shape == (12, 16, 3)
    np.testing.assert_allclose(image, 90, atol=3)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.webp"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_orientation_is_undone_once(tmp_path, name, dtype):
    if dtype == np.uint16 and name not in ("a.png", "a.tif"):
        return
    exif = Image.Exif()
    exif[0x0112] = 6
    values = np.zeros((8, 16), dtype)
    values[:, 8:] = np.iinfo(dtype).max
    image = decoding.decode(saved(tmp_path / name, values, exif=exif))
    assert image.shape == (16, 8, 3)
    assert image[0].max() < 20  # the left half is at the top
    assert image[-1].min() > 235


def test_of_several_frames_the_first_is_read(tmp_path):
    black, white = Image.new("L", (8, 8)), Image.new("L", (8, 8), 255)
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        black.save(tmp_path / name, save_all=True, append_images=[white])
        assert max(first(tmp_path / name)) < 5


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.tif", "a.bmp", "a.ppm", "a.avif"])
def test_a_truncated_image_is_one_sentence(tmp_path, name):
    if name == "a.avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    whole = saved(
        tmp_path / name, np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)
    ).read_bytes()
    for part in (0.3, 0.6, 0.9):
        written(tmp_path / name, whole[: int(part * len(whole))])
        fails(rf"{name} is a damaged image", decoding.decode, tmp_path / name)
    fails(f"{name} is empty", decoding.decode, written(tmp_path / name, b""))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello", "is a damaged image, or none"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "pointer of Git LFS.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b'<?xml version="1.0"?><svg/>', "drawing"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC image.*JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is a damaged image, or none"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, data, words):
    fails(words, decoding.decode, written(tmp_path / "a.jpg", data))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("bits", "colours", "pixel"), [(8, 0, 3), (8, 6, 4), (16, 2, 6)])
def test_the_limit_counts_bytes_and_not_pixels(tmp_path, bits, colours, pixel):
    height = MAX_DECODED // pixel // 10_000
    data = png(1, 1, bits, colours, bytes(8))
    for extra in (0, 1):
        header = struct.pack(">IIBBBBB", 10_000, height + extra, bits, colours, 0, 0, 0)
        path = written(tmp_path / "a.png", data[:8] + chunk(b"IHDR", header) + data[33:])
        # The smaller one is refused too, but for its missing pixels.
        if not extra:
            fails("damaged", decoding.decode, path)
    fails(f"declares 10000 × {height + 1} pixels of {pixel} bytes.*shrink", decoding.decode, path)


def test_files_that_cannot_be_opened(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    fails("folder.jpg cannot be read", decoding.decode, tmp_path / "folder.jpg")
    fails("cannot be read", decoding.decode, "a\0.jpg")
    (tmp_path / "round.jpg").symlink_to(tmp_path / "round.jpg")
    fails("round.jpg cannot be read", decoding.decode, tmp_path / "round.jpg")


def test_numbers_of_other_types():
    for values, wanted in (
        (np.array([0, 255], np.int64), [0, 255]),
        (np.array([0.0, 254.0]), [0, 254]),
        (np.array([0.0, 1.0, 0.5]), [0, 255, 128]),
        (np.array([], np.float32), []),
    ):
        found = decoding.to_uint8("a", values)
        assert found.dtype == np.uint8
        assert found.tolist() == wanted
    for values in (np.array([256]), np.array([-1]), np.array([0.5, 2]), np.array([True]), np.array(["a"])):
        fails("a holds .*8 bits", decoding.to_uint8, "a", values)
