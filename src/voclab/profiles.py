"""The three profiles: how much work a notebook does, for drawn images and for photographs."""

from dataclasses import replace

from voclab.config import (
    AdversaryProfile,
    Cifar10Profile,
    Profile,
    RobustnessProfile,
    SegmentationProfile,
    Training,
)
from voclab.errors import VoclabError

PROFILES = ("smoke", "demo", "full")

_SEGMENTATION = SegmentationProfile(
    width=16,
    depth=4,
    size=64,
    test_size=64,
    augmentation="none",
    epochs=2,
    learning_rate=3e-3,
    batch_size=16,
    seeds=1,
    reference_seeds=(2, 2),
    decoder_width=128,
    encoder_size=96,
    encoder_test_size=128,
    encoder_epochs=2,
    encoder_learning_rate=3e-3,
    deeplab_size=96,
    deeplab_batch_size=16,
    deeplab_epochs=3,
    deeplab_learning_rate=3e-3,
    finetune_epochs=4,
    finetune_learning_rate=1e-3,
    test_sizes=(128, 160),
)
_SEGMENTATION_ON_IMAGES = replace(
    _SEGMENTATION,
    reference_seeds=(2, 2),
    size=96,
    test_size=128,
    augmentation="standard",
    epochs=6,
    batch_size=8,
    encoder_size=224,
    encoder_test_size=320,
    encoder_epochs=6,
    encoder_learning_rate=2e-3,
    deeplab_size=256,
    deeplab_batch_size=16,
    deeplab_epochs=8,
    deeplab_learning_rate=2e-3,
    finetune_epochs=16,
    finetune_learning_rate=3e-4,
    test_sizes=(320, 416),
)

_ADVERSARY = AdversaryProfile(
    classifier="finetuned-augmented",
    segmenter="deeplab-tuned",
    size=96,
    width=24,
    blocks=3,
    patterns=8,
    batch_size=16,
    universal_epochs=(14, 14),
    universal_learning_rate=1e-2,
    epochs=(8, 4, 4),
    cycles=1,
    learning_rate=1e-3,
    kappa=15.0,
    goal_epochs=3,
    penalty_weights=(1.0, 4.0, 16.0),
    penalty_epochs=2,
    epsilons=(2, 4, 8, 16),
    pgd_images=(64, 32),
    defence_epochs=6,
    defence_learning_rate=2e-3,
    defence_steps=2,
)
_ADVERSARY_ON_IMAGES = replace(
    _ADVERSARY,
    classifier="head",
    size=224,
    width=32,
    blocks=4,
    universal_epochs=(40, 16),
    universal_learning_rate=3e-3,
    epochs=(20, 6, 6),
    cycles=2,
    kappa=6.0,
    goal_epochs=6,
    penalty_epochs=4,
    pgd_images=(144, 48),
    defence_epochs=6,
    defence_learning_rate=1e-4,
)

_CIFAR10 = Cifar10Profile(
    toy_counts=(3000, 1000),
    trainings={
        "cnn": Training("small_cnn", "none", 12, 1e-3, "adam"),
        "cnn-augmented": Training("small_cnn", "standard", 12, 1e-3, "adam"),
        "resnet8": Training("resnet8", "standard", 12, 0.1),
        "vgg": Training("vgg", "standard", 14, 0.05, width=16),
        "transfer": Training(None, "standard", 6, 1e-3, "adam"),
    },
)
# On CIFAR-10's 5,085 images or as many of the user's own, each within half an hour on two cores;
# docs/decisions.md says how the recipes were found.
_CIFAR10_ON_IMAGES = replace(
    _CIFAR10,
    trainings={
        "cnn": Training("small_cnn", "none", 30, 1e-3, "adam"),
        "cnn-augmented": Training("small_cnn", "standard", 40, 1e-3, "adam"),
        "resnet8": Training("resnet8", "advanced", 40, 0.1),
        "vgg": Training("vgg", "standard", 60, 0.05, width=32, mixup=0.2),
        "transfer": Training(None, "standard", 12, 5e-4, "adam"),
    },
)

_SMALL = Training("vgg", "standard", 14, 0.05, width=16, weight_decay=2e-3, dropout=0.0)
_PLAIN = Training("small_cnn", "standard", 30, 0.05, weight_decay=2e-3, dropout=0.0)
_ROBUSTNESS = RobustnessProfile(
    classifiers=("scratch", "scratch-augmented", "finetuned", "finetuned-augmented"),
    segmenters=("encoder-both", "deeplab-tuned"),
    images=160,
    attacked=48,
    standard=_SMALL,
    # At 8/255 it stays at guessing on the drawn images, however long; docs/decisions.md.
    hardened=replace(_SMALL, augmentation="adversarial", epochs=20, steps=2, epsilon=4.0, patience=20),
    small_images=256,
    epsilons=(1, 2, 4, 8, 16),
)
_ROBUSTNESS_ON_IMAGES = replace(
    _ROBUSTNESS,
    classifiers=("scratch", "scratch-augmented", "head", "finetuned-augmented"),
    images=96,
    attacked=24,
    standard=_PLAIN,
    hardened=replace(_PLAIN, augmentation="adversarial", epochs=60, steps=2, patience=60),
    small_images=512,
)
_FULL_ROBUSTNESS = replace(
    _ROBUSTNESS,
    images=400,
    attacked=128,
    standard=Training("resnet18", "standard", 30, 0.1, batch_size=128),
    hardened=Training("resnet18", "adversarial", 30, 0.1, batch_size=128, steps=7, patience=30),
    small_images=1000,
)

_FULL_CIFAR10 = replace(
    _CIFAR10,
    trainings={
        "cnn": Training("small_cnn", "none", 20, 1e-3, "adam", batch_size=128),
        "cnn-augmented": Training("small_cnn", "standard", 30, 1e-3, "adam", batch_size=128),
        "resnet18": Training("resnet18", "advanced", 30, 0.1, batch_size=128),
        "vgg": Training("vgg", "standard", 30, 0.05, mixup=0.2, batch_size=128),
        "densenet": Training("densenet", "standard", 30, 0.1, batch_size=128),
        "transfer": Training(None, "standard", 10, 5e-4, "adam", batch_size=128),
    },
)

_DEMO = Profile(
    name="demo",
    toy_counts=(1000, 400, 200),
    toy_size=160,
    backbone="mobilenet_v2",
    cnn_width=24,
    cnn_size=96,
    cnn_epochs=8,
    cnn_learning_rate=2e-3,
    transfer_size=96,
    test_sizes=(96,),
    head_views=4,
    finetune_epochs=6,
    finetune_learning_rate=1e-3,
    augmentation="advanced",
    segmentation=_SEGMENTATION,
    adversary=_ADVERSARY,
    cifar10=_CIFAR10,
    robustness=_ROBUSTNESS,
)

_TABLE = {
    ("demo", "toy"): _DEMO,
    ("demo", "images"): replace(
        _DEMO,
        cnn_width=32,
        cnn_size=128,
        cnn_epochs=30,
        transfer_size=320,
        test_sizes=(224, 320, 448),
        head_views=4,
        finetune_epochs=5,
        finetune_learning_rate=5e-5,
        augmentation="standard",
        segmentation=_SEGMENTATION_ON_IMAGES,
        adversary=_ADVERSARY_ON_IMAGES,
        cifar10=_CIFAR10_ON_IMAGES,
        robustness=_ROBUSTNESS_ON_IMAGES,
    ),
    ("full", "toy"): replace(
        _DEMO,
        name="full",
        toy_counts=(4000, 750, 750),
        backbone="efficientnet_v2_b0",
        cnn_size=128,
        cnn_epochs=60,
        transfer_size=128,
        test_sizes=(128,),
        finetune_epochs=20,
        segmentation=replace(
            _SEGMENTATION,
            width=32,
            size=128,
            test_size=160,
            augmentation="standard",
            epochs=40,
            seeds=3,
            reference_seeds=(3, 3),
            encoder_size=128,
            encoder_test_size=160,
            encoder_epochs=15,
            deeplab_size=128,
            deeplab_epochs=15,
            finetune_epochs=30,
            test_sizes=(128, 160, 192),
            refit=True,
        ),
        adversary=replace(
            _ADVERSARY,
            size=128,
            width=32,
            universal_epochs=(20, 20),
            epochs=(30, 20, 20),
            goal_epochs=8,
            penalty_epochs=5,
            pgd_images=(0, 96),
            defence_epochs=15,
            defence_steps=4,
        ),
        cifar10=replace(_FULL_CIFAR10, toy_counts=(10000, 2000)),
        robustness=replace(
            _FULL_ROBUSTNESS,
            hardened=replace(_FULL_ROBUSTNESS.hardened, epsilon=_ROBUSTNESS.hardened.epsilon),
        ),
        batch_size=32,
        mixed_precision=True,
    ),
    ("full", "images"): replace(
        _DEMO,
        name="full",
        backbone="efficientnet_v2_s",
        cnn_width=48,
        cnn_size=224,
        cnn_epochs=150,
        transfer_size=384,
        test_sizes=(384, 480),
        head_views=8,
        finetune_epochs=20,
        finetune_learning_rate=5e-5,
        augmentation="standard",
        segmentation=replace(
            _SEGMENTATION_ON_IMAGES,
            width=32,
            size=224,
            test_size=320,
            epochs=60,
            seeds=3,
            reference_seeds=(3, 3),
            encoder_size=320,
            encoder_test_size=448,
            encoder_epochs=15,
            decoder_width=192,
            deeplab_size=384,
            deeplab_epochs=10,
            finetune_epochs=40,
            finetune_learning_rate=1e-4,
            test_sizes=(384, 512, 640),
            refit=True,
        ),
        adversary=replace(
            _ADVERSARY_ON_IMAGES,
            classifier="finetuned-augmented",
            epochs=(120, 80, 80),
            goal_epochs=40,
            penalty_epochs=20,
            defence_epochs=20,
            defence_steps=4,
        ),
        cifar10=_FULL_CIFAR10,
        robustness=replace(_FULL_ROBUSTNESS, classifiers=_ROBUSTNESS_ON_IMAGES.classifiers),
        mixed_precision=True,
        cache_mb=2048,
    ),
}
_SMOKE = replace(
    _DEMO,
    name="smoke",
    toy_counts=(64, 32, 16),
    toy_size=96,
    cnn_width=8,
    cnn_size=48,
    cnn_epochs=2,
    transfer_size=48,
    test_sizes=(48,),
    head_views=1,
    finetune_epochs=1,
    segmentation=replace(
        _SEGMENTATION,
        width=4,
        depth=2,
        size=32,
        epochs=1,
        reference_seeds=(2, 2),
        decoder_width=16,
        encoder_size=32,
        encoder_test_size=64,
        encoder_epochs=1,
        deeplab_size=32,
        deeplab_epochs=1,
        finetune_epochs=1,
        test_sizes=(64,),
        refit=True,
    ),
    adversary=replace(
        _ADVERSARY,
        size=48,
        width=8,
        blocks=1,
        universal_epochs=(1, 1),
        epochs=(1, 1, 1),
        goal_epochs=1,
        penalty_weights=(4.0,),
        penalty_epochs=1,
        epsilons=(4, 8),
        pgd_images=(8, 8),
        defence_epochs=1,
    ),
    cifar10=Cifar10Profile(
        toy_counts=(160, 60),
        trainings={
            "cnn": Training("small_cnn", "none", 1, 1e-3, "adam", width=4),
            "cnn-augmented": Training("small_cnn", "standard", 1, 1e-3, "adam", width=4),
            "vgg": Training("vgg", "standard", 1, 0.05, width=2, mixup=0.2),
            "transfer": Training(None, "standard", 1, 1e-3, "adam"),
        },
    ),
    robustness=replace(
        _ROBUSTNESS,
        classifiers=("scratch", "finetuned-augmented"),
        segmenters=("deeplab-tuned",),
        images=8,
        attacked=4,
        standard=Training("small_cnn", "standard", 1, 0.05, width=4),
        hardened=Training("small_cnn", "adversarial", 1, 0.05, width=4, steps=1),
        small_images=16,
        epsilons=(4, 8),
    ),
)


def profile_for(name: str, dataset: str) -> Profile:
    """The profile of that name for a data set; ToyVOC's images are smaller than images.

    ``"auto"`` is ``demo`` everywhere; ``full`` is asked for by name.

    Raises:
        VoclabError: unknown profile.
    """
    if name == "auto":  # with a GPU too, as long as nobody has run ``full`` on one with TensorFlow
        name = "demo"
    if name not in PROFILES:
        raise VoclabError(f"There is no profile {name!r}; choose auto, {', '.join(PROFILES)}.")
    if name == "smoke":
        return _SMOKE
    return _TABLE[name, "toy" if dataset in ("toyvoc", "toycifar") else "images"]
