"""Augmentation and batching: what moves together, what is reproducible, what memory it takes."""

import keras
import numpy as np
import pytest

from voclab.data.base import VOID, Dataset
from voclab.data.batches import (
    DecodedCache,
    apply_augmentation,
    augmenter,
    evaluation_batches,
    smoothed,
    training_batches,
)
from voclab.data.images import resized


def _collect(dataset, **options):
    defaults = {
        "size": 32,
        "augmentation": "advanced",
        "batch_size": 8,
        "seed": 5,
        "epochs": 2,
        "target": "masks",
    }
    stream = training_batches(dataset, **{**defaults, **options})
    images, targets = zip(*[(x.numpy(), y.numpy()) for x, y in stream])
    return np.stack(images), np.stack(targets)


@pytest.mark.parametrize("augmentation", ["none", "standard", "advanced", "cifar", "cifar-advanced"])
def test_image_and_mask_move_together(augmentation):
    """The mask of an image that shows its own mask must still match after augmentation."""
    rng = np.random.default_rng(1)
    mask = np.kron(rng.integers(0, 2, (6, 8)), np.ones((40, 40))).astype(np.uint8)
    image = np.repeat((mask * 200 + 20)[..., None], 3, axis=2).astype(np.uint8)
    compose = augmenter(augmentation, 96)
    agreement = []
    for k in range(40):
        out = apply_augmentation(compose, (0, k), image, mask)
        known = out["mask"] != VOID
        assert out["image"].shape == (96, 96, 3)
        assert out["image"].dtype == np.uint8
        assert set(np.unique(out["mask"])) <= {0, 1, VOID}
        bright = out["image"].mean(-1)
        if known.any() and 0 < out["mask"][known].mean() < 1:
            middle = (bright[known].max() + bright[known].min()) / 2
            agreement.append(((bright > middle) == out["mask"])[known].mean())
    assert len(agreement) > 20
    assert np.quantile(agreement, 0.1) > 0.9


def test_shrinking_averages_in_training_as_in_evaluation():
    """A one-pixel checkerboard is grey at an eighth of its size; aliasing would keep black and white."""
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    image = np.repeat(board[..., None], 3, axis=2)
    for augmentation in ("none", "standard"):
        out = apply_augmentation(augmenter(augmentation, 32), (0, 1), image)["image"]
        assert out.std() < 25, augmentation
    np.testing.assert_allclose(
        apply_augmentation(augmenter("none", 32), (0, 1), image)["image"] / 255,
        resized(image, 32),
        atol=0.01,
    )


def test_advanced_fills_what_comes_in_from_outside_with_void():
    compose = augmenter("advanced", 64)
    masks = [
        apply_augmentation(compose, (0, k), np.zeros((64, 64, 3), np.uint8), np.ones((64, 64), np.uint8))[
            "mask"
        ]
        for k in range(30)
    ]
    assert any((m == VOID).any() for m in masks)
    assert all(set(np.unique(m)) <= {1, VOID} for m in masks)


def test_transforms_of_one_policy_are_drawn_independently():
    """Seeding a Compose makes all its transforms fire together (albumentations 2.0.8); ours must not."""
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] + 60, (64, 1, 3))
    compose = augmenter("standard", 64)
    flipped, brighter = [], []
    for k in range(300):
        out = apply_augmentation(compose, (7, k), ramp)["image"].astype(float)
        flipped.append(out[:, -8:].mean() < out[:, :8].mean())
        brighter.append(out.mean() > ramp.mean())
    assert 0.35 < np.mean(flipped) < 0.65
    assert abs(np.corrcoef(flipped, brighter)[0, 1]) < 0.2


def test_cifar_shifts_by_at_most_an_eighth_into_its_reflection_and_flips():
    image = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3) * 17 % 251
    image = image.astype(np.uint8)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), "reflect")
    windows = {}
    for y in range(9):
        for x in range(9):
            window = padded[y : y + 32, x : x + 32]
            windows[window.tobytes()] = (y, x, False)
            windows[window[:, ::-1].tobytes()] = (y, x, True)
    compose = augmenter("cifar", 32)
    seen = np.array(
        [windows[apply_augmentation(compose, (3, k), image)["image"].tobytes()] for k in range(500)]
    )
    assert {*seen[:, 0]} == {*seen[:, 1]} == set(range(9))
    assert 0.4 < seen[:, 2].mean() < 0.6
    assert np.abs(np.corrcoef(seen.T) - np.eye(3)).max() < 0.2


def test_cifar_advanced_also_turns_and_colours():
    bar = np.full((32, 32, 3), 120, np.uint8)
    bar[14:18] = (200, 80, 40)
    plain, advanced = (
        [apply_augmentation(augmenter(p, 32), (0, k), bar)["image"] for k in range(40)]
        for p in ("cifar", "cifar-advanced")
    )
    assert all((image == image[:, :1]).all() for image in plain)  # shifted and flipped, the bar stays level
    assert {tuple(c) for image in plain for c in image.reshape(-1, 3)} == {(120, 120, 120), (200, 80, 40)}
    level = [(image == image[:, :1]).all() for image in advanced]
    assert 5 < sum(level) < 35
    assert len({int(image.max()) for image in advanced}) > 10


@pytest.fixture(scope="module")
def told_apart():
    """Twelve images of twelve classes: labels say which images were mixed."""
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    return Dataset(
        name="told apart",
        split="train",
        task="multiclass",
        ids=tuple(map(str, range(12))),
        class_names=tuple(map(str, range(12))),
        labels=np.eye(12, dtype=np.uint8),
        read_image=lambda i: images[i],
        read_mask=None,
        source="noise",
    )


def _mixed(dataset, **options):
    return _collect(
        dataset, **{"size": 8, "augmentation": "none", "batch_size": 4, "target": "labels"} | options
    )


def test_mixup_mixes_pixels_and_labels_of_a_batch_alike(told_apart):
    images, labels = _mixed(told_apart, mixup=1.0)
    plain_images, plain_labels = _mixed(told_apart)
    assert images.dtype == labels.dtype == np.float32
    assert len(images) == 6
    weights = []
    for batch in range(6):
        # The one-hot labels of the batch turn the mixed ones into each sample's share of each image.
        shares = labels[batch] @ plain_labels[batch].T
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(shares.sum(0), 1, atol=1e-6)  # the other order is a permutation
        assert shares.min() >= 0
        assert (np.count_nonzero(shares, axis=1) <= 2).all()
        wanted = np.tensordot(shares, plain_images[batch], 1)
        np.testing.assert_allclose(images[batch], wanted, atol=1e-6)
        weights.append(shares[0, 0])
        moved = np.diag(shares)[np.diag(shares) < 1 - 1e-6]
        np.testing.assert_allclose(moved, moved[:1].repeat(len(moved)), atol=1e-6)  # one weight a batch
    assert len({*np.round(weights, 5)}) > 3


def test_mixup_depends_on_seed_and_step_alone(told_apart):
    whole = _mixed(told_apart, mixup=0.4, epochs=3)
    for part, options in ((0, {}), (6, {"start_epoch": 2})):
        again = _mixed(told_apart, mixup=0.4, epochs=3, **options)
        np.testing.assert_array_equal(whole[0][part:], again[0])
        np.testing.assert_array_equal(whole[1][part:], again[1])
    assert not np.array_equal(whole[1], _mixed(told_apart, mixup=0.4, epochs=3, seed=6)[1])


@pytest.mark.parametrize(
    ("task", "loss"),
    [("multiclass", keras.losses.CategoricalCrossentropy), ("multilabel", keras.losses.BinaryCrossentropy)],
)
def test_smoothed_labels_are_those_of_keras(task, loss):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (6, 5)).astype(np.float32)
    labels = np.eye(5, dtype=np.float32)[rng.integers(0, 5, 6)]
    theirs = loss(from_logits=True, label_smoothing=0.1)(labels, logits)
    ours = loss(from_logits=True)(smoothed(labels, 0.1, task), logits)
    np.testing.assert_allclose(float(ours), float(theirs), rtol=1e-6)


def test_smoothing_changes_the_labels_of_the_stream_only(told_apart):
    images, labels = _mixed(told_apart, smoothing=0.12)
    plain_images, plain_labels = _mixed(told_apart)
    np.testing.assert_array_equal(images, plain_images)
    np.testing.assert_allclose(labels, np.where(plain_labels == 1, 0.89, 0.01), atol=1e-6)


def test_the_stream_is_the_same_on_any_number_of_cores(squares, monkeypatch):
    found = []
    for cores in (1, 4):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        found.append(_collect(squares))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_a_resumed_stream_goes_on_where_the_unbroken_one_is(squares):
    whole = _collect(squares, epochs=3)
    rest = _collect(squares, epochs=3, start_epoch=1)
    np.testing.assert_array_equal(whole[0][6:], rest[0])
    np.testing.assert_array_equal(whole[1][6:], rest[1])


def test_epochs_and_seeds_differ(squares):
    images, _ = _collect(squares)
    assert not np.array_equal(images[:6], images[6:])
    other, _ = _collect(squares, seed=6)
    assert not np.array_equal(images, other)


def test_batches_are_pixels_between_0_and_1_with_float_labels(squares):
    images, labels = _collect(squares, target="labels", augmentation="none")
    assert images.dtype == labels.dtype == np.float32
    assert 0.2 < images.max() <= 1.0
    assert images.min() >= 0.0
    assert images.shape == (12, 8, 32, 32, 3)
    np.testing.assert_array_equal(np.sort(labels[:6].reshape(-1, 3), 0), np.sort(squares.labels, 0))


def test_a_data_set_smaller_than_the_batch_still_gives_a_batch(squares):
    images, _ = _collect(squares.subset(range(5)), batch_size=16, epochs=1)
    assert images.shape[:2] == (1, 5)


def test_what_cannot_be_done_is_refused(squares):
    with pytest.raises(ValueError, match="not one of none, crops, standard, advanced"):
        augmenter("strong", 32)
    with pytest.raises(ValueError, match="not for masks"):
        _collect(squares, mixup=0.2)


def test_the_cache_keeps_to_its_budget_and_never_changes_a_image(squares):
    one_image = 48 * 64 * 3
    cache = DecodedCache(squares, budget_mb=5.5 * one_image / 2**20)
    for i in range(48):
        np.testing.assert_array_equal(cache.image(i), squares.image(i))
    assert cache.used == 5 * one_image
    assert cache.image(0) is cache.image(0)


def test_the_cache_can_shrink_what_it_keeps(squares):
    cache = DecodedCache(squares, longest_side=32)
    assert cache.image(0).shape == (24, 32, 3)
    assert set(np.unique(cache.mask(0))) <= set(np.unique(squares.mask(0)))


def test_evaluation_batches_cover_every_image_in_order(squares):
    batches = list(evaluation_batches(squares, 40, 20))
    assert [len(b) for b in batches] == [20, 20, 8]
    np.testing.assert_array_equal(batches[2][7], resized(squares.image(47), 40))
