"""Augmentation: every change against its twin, with a picture of what went wrong, and seeded sample by sample."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from fastcnn import SGD, Augmentation, Dense, Flatten, Sequential, Trainer
from fastcnn.data import augmentation
from fastcnn.data.augmentation import epoch_order
from fastcnn.training import feed
from fastcnn.training.feed import ArrayFeed
from fastcnn.training.loop import _feed

CHANGES = {
    "nothing": {},
    "horizontal flip": {"horizontal_flip": True},
    "vertical flip": {"vertical_flip": True},
    "alternating flip": {"horizontal_flip": "alternating"},
    "shift": {"shift": 3},
    "shift far": {"shift": 40, "padding": "reflect"},
    "shift, edge": {"shift": 3, "padding": "edge"},
    "shift, fill": {"shift": 2, "fill": 0.5},
    "rotation": {"rotation": 40.0},
    "rotation, reflect": {"rotation": 180.0, "padding": "reflect"},
    "scale": {"scale": 0.5},
    "scale, edge": {"scale": 0.5, "padding": "edge"},
    "contrast": {"contrast": 0.7},
    "brightness": {"brightness": 0.4},
    "cutout": {"cutout": 4},
    "cutout, odd": {"cutout": 3, "fill": 1.0},
    "crop": {"crop": (0.2, 0.9)},
    "crop, always too wide": {"crop": (0.9, 1.0), "crop_ratio": (5.0, 6.0), "horizontal_flip": True},
    "crop, always too high": {"crop": (0.9, 1.0), "crop_ratio": (0.1, 0.2), "shift": 1},
    "crop and more": {"crop": (0.3, 1.0), "crop_ratio": (0.5, 2.0), "rotation": 10.0, "cutout": 2, "fill": 0.3},
    "all": {
        "horizontal_flip": True, "vertical_flip": True, "shift": 2, "rotation": 15.0, "scale": 0.2, "contrast": 0.3,
        "brightness": 0.2, "cutout": 3, "padding": "reflect",
    },
}  # fmt: skip
SHADES = " .:-=+*#%@"


def image_set(n: int, shape: tuple[int, ...], dtype=np.float64) -> np.ndarray:
    pixels = np.random.RandomState(0).randint(0, 256, size=(n, *shape)).astype(np.uint8)
    pixels[:, :, 1, :] = 255  # a line, so that a picture tells up from down
    return pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)


def picture(*images: np.ndarray) -> str:
    """Return the first channels of images side by side, in characters."""
    rows = []
    for lines in zip(*(image[0] for image in images), strict=True):
        cells = [
            "".join(2 * SHADES[int(np.clip(value, 0, 1) * 9.99)] if np.isfinite(value) else "??" for value in line)
            for line in lines
        ]
        rows.append(" | ".join(cells))
    return "\n".join(rows)


def check_alike(before: np.ndarray, actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Fail with a picture of the first image that differs: before, as it came, as the twin has it."""
    assert actual.shape == expected.shape
    for i, (was, comes, wanted) in enumerate(zip(before, actual, expected, strict=True)):
        far = np.abs(comes - wanted).max()
        if not far <= tolerance:
            pictures = picture(was / 255 if was.dtype == np.uint8 else was, comes, wanted)
            pytest.fail(f"image {i} is {far:.2g} away\nbefore | fastcnn | twin\n{pictures}")


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 10), (2, 2, 1)], ids=str)
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_its_twins(change, shape, dtype):
    x, indices = image_set(6, shape, dtype), [0, 5, 3, 1000, 7, 2]
    for epoch in (0, 3):
        actual = Augmentation(**CHANGES[change])(x, seed=7, epoch=epoch, indices=indices)
        expected = reference.Augmentation(**CHANGES[change])(x, seed=7, epoch=epoch, indices=indices)
        check_alike(x, actual, expected, 1e-12 if dtype == np.float64 else 2e-6)
        assert actual.dtype == (np.float64 if dtype == np.float64 else np.float32)


COLOURS = {
    "brightness": (0.8, 0.0, 0.0, 0.0), "contrast": (0.0, 0.9, 0.0, 0.0), "saturation": (0.0, 0.0, 1.5, 0.0),
    "hue": (0.0, 0.0, 0.0, 0.5), "all": (0.4, 0.4, 0.4, 0.1),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 6, 5)], ids=str)
@pytest.mark.parametrize("strengths", COLOURS.values(), ids=COLOURS)
def test_colours_are_their_twins(strengths, shape, dtype):
    x = image_set(8, shape, dtype)
    x[0] = x[0, :1]  # grey pixels have no hue
    changes = {"color_jitter": strengths, "horizontal_flip": True, "crop": (0.5, 1.0)}
    actual = Augmentation(**changes)(x, seed=3, epoch=1)
    expected = reference.Augmentation(**changes)(x, seed=3, epoch=1)
    check_alike(x, actual, expected, 1e-12 if dtype == np.float64 else 1e-5)
    changed = np.abs(actual - Augmentation(horizontal_flip=True, crop=0.5)(x, seed=3, epoch=1)).max() > 0.01
    assert changed == (shape[0] == 3 or any(strengths[:2]))


def test_crops_are_spread_as_torchvisions():
    """Areas and ratios in their bounds, places anywhere; an image of one column has a crop too."""
    keys = augmentation.sample_keys(1, 0, np.arange(4000))
    boxes = augmentation.resized_crops(lambda k: augmentation.uniform(keys, k), 20, 4000, (64, 64), (0.1, 1), (0.5, 2))
    top, left, height, width = boxes.T
    area = height * width / 64**2
    assert ((top >= 0) & (top + height <= 64) & (left >= 0) & (left + width <= 64)).all()
    assert area.min() > 0.08
    assert 0.4 < area.mean() < 0.55
    inner = (width / height)[area < 0.3]
    assert 0.45 < inner.min() < 0.55
    assert 1.8 < inner.max() < 2.2
    assert np.log(inner).mean() == pytest.approx(0, abs=0.05)
    assert np.isfinite(Augmentation(crop=0.08)(image_set(9, (1, 2, 1)))).all()


def test_torchvision_agrees():
    """With its functions on the same boxes and factors, where it is there."""
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    torch = pytest.importorskip("torch")
    x = image_set(20, (3, 9, 7))
    chances = Augmentation(crop=(0.3, 0.8))._draw(np.arange(20), (0, 0), x.shape)
    for image, box, mine in zip(x, chances.crops.tolist(), Augmentation(crop=(0.3, 0.8))(x), strict=True):
        theirs = functional.resized_crop(torch.tensor(image), *box, [9, 7], antialias=True)
        np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-6)
    jitter = Augmentation(color_jitter=(0.4, 0.4, 0.4, 0.2))
    chances = jitter._draw(np.arange(20), (0, 0), x.shape)
    steps = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation,
             functional.adjust_hue)  # fmt: skip
    for image, factors, order, mine in zip(x, chances.factors, chances.order, jitter(x), strict=True):
        theirs = torch.tensor(image)
        for what in order.tolist():
            theirs = steps[what](theirs, float(factors[what]))
        np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
@pytest.mark.parametrize("alpha", [0.3, 1.0, 6.0])
def test_cutmix_is_its_twin(dtype, alpha):
    x, y, classes = image_set(12, (2, 9, 8), dtype), np.arange(12) % 3, 3
    options = {"horizontal_flip": True, "shift": 1, "cutmix": alpha}
    wanted = reference.Augmentation(**options).mixed(x, np.eye(classes)[y], seed=5, epoch=1)
    order = epoch_order(5, 1, 12)
    source = ArrayFeed(x, y, None, 5, 5, Augmentation(**options), np.float64, classes)
    batches = [(batch.x.copy(), batch.y) for batch in source.batches(1)]
    images, targets = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert images.dtype == dtype  # where pixels only move, bytes stay bytes
    check_alike(x[order], images / (255 if dtype == np.uint8 else 1), wanted[0][order], 1e-6)
    np.testing.assert_allclose(targets, wanted[1][order], atol=1e-12)
    assert ((targets > 0) & (targets < 1)).any()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_mixup_is_its_twin(dtype, alpha):
    """In the input path, where the partners are: images and targets, whatever the batches."""
    x, y, classes = image_set(10, (2, 6, 5), dtype), np.arange(10) % 3, 3
    options = {"horizontal_flip": True, "shift": 1, "mixup": alpha}
    wanted = reference.Augmentation(**options).mixed(x, np.eye(classes)[y], seed=5, epoch=1)
    changes, order = Augmentation(**options), epoch_order(5, 1, 10)
    source = ArrayFeed(x, y, None, 4, 5, changes, np.float64, classes)
    batches = [(batch.x.copy(), batch.y) for batch in source.batches(1)]
    images, targets = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    check_alike(x[order], images, wanted[0][order], 1e-6)
    np.testing.assert_allclose(targets, wanted[1][order], atol=1e-6)


def test_mixup_of_numbers_mixes_numbers():
    """Whole numbers that are no classes, as of a regression, are not made one-hot."""
    x, y, changes = image_set(8, (1, 4, 4)), np.arange(8) * 10, Augmentation(mixup=1.0)
    trainer = Trainer(Sequential([Flatten(), Dense(1)]), "mean_squared_error", SGD(1e-9), random_state=0)
    source = _feed(trainer, x, y, 8, None, changes, drop_last=False)
    order = epoch_order(0, 0, 8)
    (batch,) = source.batches(0)
    partner, share = changes._partners(order, (0, 0), 8)
    np.testing.assert_allclose(batch.y, share * y[order] + (1 - share) * y[partner])


@pytest.mark.parametrize("change", ["shift", "cutout", "shift, edge", "shift, fill", "brightness", "rotation"])
@pytest.mark.parametrize("drawn", [1, 6, 1000])
def test_batches_of_bytes_are_the_same_images(change, drawn, monkeypatch):
    """Scaled by the step if pixels only moved, else already; with random numbers of one batch, of some, of all."""
    monkeypatch.setattr(feed, "DRAWN", drawn)
    x, changes = image_set(11, (2, 6, 5), np.uint8), Augmentation(**CHANGES[change])
    order = epoch_order(5, 1, 11)
    wanted = changes(x[order], seed=5, epoch=1, indices=order)
    batches = [batch.x.copy() for batch in ArrayFeed(x, np.arange(11), None, 3, 5, changes).batches(1)]
    images = np.concatenate(batches)
    assert images.dtype == (np.uint8 if change in {"shift", "cutout", "shift, edge"} else np.float32)
    scale = np.float32(1 / 255 if images.dtype == np.uint8 else 1)
    np.testing.assert_array_equal(images * scale, wanted)


def test_a_difference_shows_a_picture():
    x = image_set(2, (1, 4, 4))
    with pytest.raises(pytest.fail.Exception, match=r"(?s)before \| fastcnn \| twin\n.*@@@@@@@@ \| .*\|"):
        check_alike(x, x, x[:, :, ::-1], 1e-6)


@pytest.mark.parametrize("change", ["shift", "all"])
def test_neither_place_nor_size_of_the_batch_matters(change):
    x, augment = image_set(20, (1, 8, 8)), Augmentation(**CHANGES[change])
    whole, order = augment(x, seed=1, epoch=2), np.random.RandomState(3).permutation(20)
    for chosen in np.split(order, [1, 4, 13]):
        np.testing.assert_array_equal(augment(x[chosen], seed=1, epoch=2, indices=chosen), whole[chosen])
    assert not np.array_equal(augment(x, seed=1, epoch=3), whole)
    assert not np.array_equal(augment(x, seed=2, epoch=2), whole)


@pytest.mark.parametrize("order", [np.asfortranarray, lambda x: x[:, :, ::-1], lambda x: x.astype(">f4")])
def test_any_memory_order(order):
    x, augment = order(image_set(4, (2, 6, 5), np.float32)), Augmentation(shift=1)
    np.testing.assert_array_equal(augment(x), augment(np.ascontiguousarray(x, np.float32)))


def test_what_is_given_is_not_changed():
    x = image_set(4, (1, 6, 6), np.float32)
    before = x.copy()
    Augmentation(**CHANGES["all"])(x)
    np.testing.assert_array_equal(x, before)


def test_alternating_flips_show_both_sides_in_two_epochs():
    x, augment = image_set(30, (1, 5, 5)), Augmentation(horizontal_flip="alternating")
    first, second, third = (augment(x, epoch=epoch) for epoch in range(3))
    np.testing.assert_array_equal(first, second[..., ::-1])
    np.testing.assert_array_equal(first, third)
    flipped = (first != x).any(axis=(1, 2, 3))
    assert 5 < flipped.sum() < 25


def test_chances_are_even():
    """All moves of a shift are equally frequent, coins are fair, and no number of a sample leans on another."""
    keys = augmentation.sample_keys(3, 1, np.arange(20000))
    numbers = np.stack([augmentation.uniform(keys, number) for number in [*range(12), *range(13, 60)]])
    assert np.abs(numbers.mean(axis=1) - 0.5).max() < 0.01
    assert np.abs(np.corrcoef(numbers) - np.eye(len(numbers))).max() < 5 / 20000**0.5
    counts = np.bincount(augmentation.below(keys, 2, 7), minlength=7)
    assert np.abs(counts / 20000 - 1 / 7).max() < 0.01


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_mixup_draws_from_beta(alpha):
    stats = pytest.importorskip("scipy.stats")
    partner, share = Augmentation(mixup=alpha)._partners(np.arange(20000), (0, 0), 50)
    assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    assert np.array_equal(np.unique(partner), np.arange(50))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"shift": -1}, ValueError, "shift: expected an int of at least 0; got -1"),
        ({"shift": 1.5}, TypeError, "shift"),
        ({"cutout": True}, TypeError, "cutout"),
        ({"rotation": np.nan}, ValueError, "rotation"),
        ({"scale": 1.0}, ValueError, r"scale: expected a number of \[0, 1\); got 1.0"),
        ({"mixup": "much"}, TypeError, "mixup"),
        ({"mixup": 1, "cutmix": 0.5}, ValueError, "cutmix: expected 0 with mixup=1; got 0.5"),
        ({"crop": 0}, ValueError, "crop: expected shares above 0, rising, of at most 1; got 0"),
        ({"crop": (0.5, 1.5)}, ValueError, r"crop: expected shares .* got \(0.5, 1.5\)"),
        ({"crop": (0.5, 0.6, 0.7)}, ValueError, r"crop: expected a number or 2; got \(0.5, 0.6, 0.7\)"),
        ({"crop": "0.5"}, ValueError, "crop: expected a number or 2; got '0.5'"),
        ({"crop_ratio": (2, 1)}, ValueError, r"crop_ratio: expected numbers above 0, rising; got \(2, 1\)"),
        ({"color_jitter": (0.1, 0.2, 0.3, 0.6)}, ValueError, "color_jitter: expected a hue of at most 0.5; got 0.6"),
        ({"color_jitter": (1, 2, 3, 4, 5)}, ValueError, "color_jitter: expected a number or up to 4"),
        ({"color_jitter": (-0.1,)}, ValueError, r"color_jitter\[0\]: expected a number of \[0, inf\); got -0.1"),
        ({"horizontal_flip": "often"}, ValueError, "'alternating'; got 'often'"),
        ({"padding": "wrap"}, ValueError, "padding: expected one of constant, edge, reflect; got 'wrap'"),
    ],
)
def test_nonsense_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        Augmentation(**arguments)


def test_colours_are_those_of_one_channel_or_three():
    words = "Augmentation: color_jitter: expected images of 1 or 3 channels; got 2"
    with pytest.raises(ValueError, match=words):
        Augmentation(color_jitter=0.1)(np.ones((3, 2, 4, 4)))


def test_single_numbers_stand_for_several():
    changes = Augmentation(crop=0.25, crop_ratio=2, color_jitter=0.5)
    assert (changes.crop, changes.crop_ratio) == ((0.25, 1.0), (0.5, 2.0))
    assert changes.color_jitter == (0.5, 0.5, 0.5, 0.0)


def test_features_are_no_images():
    with pytest.raises(ValueError, match=r"Augmentation: x: expected images \(N, C, H, W\); got shape \(3, 4\)"):
        Augmentation(shift=1)(np.ones((3, 4)))


def test_repr_tells_what_was_chosen():
    assert repr(Augmentation(shift=2, fill=1)) == "Augmentation(shift=2, fill=1.0)"


@pytest.mark.parametrize("alpha", [2.0, 540.0, 1e5, 1e12])
def test_mixup_of_any_alpha_has_shares_about_a_half(alpha):
    _, share = Augmentation(mixup=alpha)._partners(np.arange(4000), (0, 0), 4000)
    assert np.isfinite(share).all()
    assert share.mean() == pytest.approx(0.5, abs=0.02)
    assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1, abs=1e-8)
