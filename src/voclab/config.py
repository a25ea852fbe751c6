"""What a profile says: how much work each notebook does."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SegmentationProfile:
    """Sizes and lengths of notebook 02.

    Attributes:
        width: channels of the from-scratch U-Net at full resolution.
        depth: how often it halves the resolution.
        size: its training size, pixels.
        test_size: longest side at which it is tested, pixels.
        augmentation: its augmentation.
        epochs: its training.
        learning_rate: its peak learning rate.
        batch_size: images a step, of this family and the next.
        seeds: seeds of each setting.
        reference_seeds: seeds of the one that the others of its family are compared with, from scratch and
            on the encoder: their spread is the yardstick.
        decoder_width: channels of the decoders on a pretrained encoder.
        encoder_size: training size of the U-Net on a frozen encoder, pixels.
        encoder_test_size: longest side at which it is tested, pixels.
        encoder_epochs: its training.
        encoder_learning_rate: its peak learning rate.
        deeplab_size: training size of DeepLabV3+, pixels.
        deeplab_batch_size: its images a step.
        deeplab_epochs: its training on the frozen encoder.
        deeplab_learning_rate: the peak learning rate of that.
        finetune_epochs: epochs of the whole network after that.
        finetune_learning_rate: their peak learning rate.
        test_sizes: longest sides averaged when it is tested, with mirror images.
        refit: whether the chosen model is trained once more on all training images, for its time again.
    """

    width: int
    depth: int
    size: int
    test_size: int
    augmentation: str
    epochs: int
    learning_rate: float
    batch_size: int
    seeds: int
    reference_seeds: tuple[int, int]
    decoder_width: int
    encoder_size: int
    encoder_test_size: int
    encoder_epochs: int
    encoder_learning_rate: float
    deeplab_size: int
    deeplab_batch_size: int
    deeplab_epochs: int
    deeplab_learning_rate: float
    finetune_epochs: int
    finetune_learning_rate: float
    test_sizes: tuple[int, ...]
    refit: bool = False


@dataclass(frozen=True)
class AdversaryProfile:
    """Sizes and lengths of notebook 03.

    Attributes:
        classifier: run of notebook 01 that is attacked.
        segmenter: run of notebook 02 that is attacked.
        size: side of the images that are attacked, pixels.
        width: channels of the generator's first convolution.
        blocks: its residual blocks.
        patterns: learnt patterns that it mixes.
        batch_size: images a step.
        universal_epochs: training of the universal perturbations, from which the others start, one number a
            classifier, segmenter.
        universal_learning_rate: their peak learning rate.
        epochs: training of the image-dependent adversaries, one number a classifier, segmenter, both.
        cycles: how often in a row the classifier's one is trained, each time with a cosine of its own;
            after the first at 0.3 of the rate.
        learning_rate: their peak learning rate.
        kappa: width of the classifiers' hinge, logits.
        goal_epochs: training of those that make a class appear or vanish.
        penalty_weights: weights of the L2 penalty for the trade-off curve, beside 0.
        penalty_epochs: training at each weight, from the adversary without penalty.
        epsilons: bounds that attacks are measured at, steps of 1/255; 8, the one trained at, is among them.
        pgd_images: images that PGD on a segmenter is measured on, at 8/255 and at other bounds; 0 for all.
        defence_epochs: adversarial fine-tuning of the classifier.
        defence_learning_rate: its peak learning rate.
        defence_steps: PGD steps inside it.
    """

    classifier: str
    segmenter: str
    size: int
    width: int
    blocks: int
    patterns: int
    batch_size: int
    universal_epochs: tuple[int, int]
    universal_learning_rate: float
    epochs: tuple[int, int, int]
    cycles: int
    learning_rate: float
    kappa: float
    goal_epochs: int
    penalty_weights: tuple[float, ...]
    penalty_epochs: int
    epsilons: tuple[int, ...]
    pgd_images: tuple[int, int]
    defence_epochs: int
    defence_learning_rate: float
    defence_steps: int


@dataclass(frozen=True)
class Training:
    """One classifier of small images (notebooks 04 and 05); options as those of ``voclab train``.

    Attributes:
        model: key of ``voclab.models.zoo.ZOO``; ``None`` for the one that pretrained weights are there for.
        augmentation: ``none``, ``standard``, ``advanced`` or ``adversarial``.
        epochs: longest training.
        learning_rate: peak learning rate.
        optimizer: ``adam`` or ``sgd``.
        width: of the network; ``None`` as published.
        weight_decay: times the rate.
        mixup: alpha.
        smoothing: of labels.
        batch_size: images a step.
        dropout: before the last layer.
        steps: of PGD, where augmentations are ``adversarial``.
        epsilon: its bound, steps of 1/255.
        patience: epochs without a better score before training stops.
    """

    model: str | None
    augmentation: str
    epochs: int
    learning_rate: float
    optimizer: str = "sgd"
    width: float | None = None
    weight_decay: float = 5e-3
    mixup: float = 0.0
    smoothing: float = 0.0
    batch_size: int = 64
    dropout: float = 0.2
    steps: int = 4
    epsilon: float = 8.0
    patience: int = 15


@dataclass(frozen=True)
class Cifar10Profile:
    """Sizes and lengths of notebook 05.

    Attributes:
        toy_counts: ToyCIFAR images in train and test.
        trainings: name -> classifier, in the order of the table.
    """

    toy_counts: tuple[int, int]
    trainings: dict[str, Training]


@dataclass(frozen=True)
class RobustnessProfile:
    """Sizes and lengths of notebook 04.

    Attributes:
        classifiers: runs of notebook 01 that are measured, the baseline first.
        segmenters: runs of notebook 02, likewise.
        images: images that they are measured on, spread over the test set; 0 for all.
        attacked: of these, images for the attacks.
        standard: the small classifier that adversarial training is compared with.
        hardened: the same, adversarially trained.
        small_images: small images that both are measured on.
        epsilons: bounds of the attacks on them, steps of 1/255.
    """

    classifiers: tuple[str, ...]
    segmenters: tuple[str, ...]
    images: int
    attacked: int
    standard: Training
    hardened: Training
    small_images: int
    epsilons: tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """Sizes and lengths of everything a notebook runs; each field is a plain number or name.

    Attributes:
        name: ``smoke`` (CI: every cell in seconds), ``demo`` (CPU: minutes) or ``full`` (GPU).
        toy_counts: ToyVOC images in train, val and test.
        toy_size: longest side of a ToyVOC image, pixels.
        backbone: backbone of the transfer models when ImageNet weights can be had.
        cnn_width: channels of the first stage of the from-scratch CNN.
        cnn_size: input side of the from-scratch CNN, pixels.
        cnn_epochs: its longest training.
        cnn_learning_rate: its peak learning rate.
        transfer_size: input side of the transfer models, pixels.
        test_sizes: input sides whose predictions the transfer models average at test time.
        head_views: augmented views of each image whose features train the linear head.
        finetune_epochs: epochs of the second phase.
        finetune_learning_rate: its peak learning rate.
        augmentation: augmentation of the augmented classifiers.
        segmentation: the same for notebook 02.
        adversary: the same for notebook 03.
        cifar10: the same for notebook 05.
        robustness: the same for notebook 04.
        batch_size: images a batch.
        validation_fraction: share of the training images kept for every choice.
        mixed_precision: compute in float16 where the GPU is fast at it.
        cache_mb: memory for decoded training images, MiB; validation images may take up to 1024 more.
    """

    name: str
    toy_counts: tuple[int, int, int]
    toy_size: int
    backbone: str
    cnn_width: int
    cnn_size: int
    cnn_epochs: int
    cnn_learning_rate: float
    transfer_size: int
    test_sizes: tuple[int, ...]
    head_views: int
    finetune_epochs: int
    finetune_learning_rate: float
    augmentation: str
    segmentation: SegmentationProfile
    adversary: AdversaryProfile
    cifar10: Cifar10Profile
    robustness: RobustnessProfile
    batch_size: int = 16
    validation_fraction: float = 0.2
    mixed_precision: bool = False
    cache_mb: int = 1024
