"""One network that says which classes are in an image and where: two heads on one pretrained encoder."""

import keras
from keras import layers, ops

from voclab.models.classifiers import FEATURES, FINER, POOLED
from voclab.models.segmenters import coarse_logits, decoded, encoded, enlarged

PRESENCE, LOGITS = "presence", "logits"  # outputs of the network


def build_joint(
    backbone: str,
    classes: int,
    *,
    weights: str | None = None,
    width: int = 160,
    finest: int = 4,
    dropout: float = 0.1,
    pooled_dropout: float = 0.3,
    options: dict | None = None,
) -> keras.Model:
    """A classifier and a segmenter that share all that is expensive.

    The segmenter is the U-Net of :func:`voclab.models.segmenters.build_encoder_unet`, without the joins finer
    than ``finest``. Which classes are there is told by a linear head on the pooled deepest map, as in
    :func:`voclab.models.classifiers.build_classifier`, plus what the segmenter is surest of: the highest
    log-probability of each class over all places, scaled and shifted by two numbers a class that are learnt.

    Args:
        backbone: key of ``voclab.models.catalogue.BACKBONES``.
        classes: labels including background.
        weights: ``None`` (random), ``"imagenet"`` or a file, of the encoder. Pretrained batch norm stays in
            inference mode for good.
        width: channels of the decoder at its coarsest.
        finest: stride of the finest map of the encoder that the decoder joins.
        dropout: share of bottleneck channels dropped in training.
        pooled_dropout: share of the pooled features dropped in training.
        options: further arguments of the backbone's builder.

    Returns:
        ``keras.Model``: (B, H, W, 3) float32 in [0, 1], H, W ≥ 32, -> ``{"logits": (B, H, W, classes),
        "presence": (B, classes - 1)}``, float32 logits.
    """
    inputs, maps = encoded(backbone, weights, options or {}, output_stride=None)
    deepest = max(maps)
    maps = {
        stride: layers.Activation("linear", name=FEATURES if stride == deepest else f"{FINER}{stride}")(x)
        for stride, x in maps.items()
        if stride >= finest
    }
    coarse = coarse_logits(decoded(maps, width, dropout, joined=True), classes)
    pools = layers.GlobalAveragePooling2D(), layers.GlobalMaxPooling2D()
    pooled = layers.Concatenate(name=POOLED)([pool(maps[deepest]) for pool in pools])
    pooled = layers.Dropout(pooled_dropout, name="pooled_dropout")(pooled)
    whole = layers.Dense(classes - 1, name="presence_of_whole", dtype="float32")(pooled)
    seen = Evidence(name="presence_of_places", dtype="float32")(coarse)
    presence = layers.Add(name=PRESENCE, dtype="float32")([whole, seen])
    return keras.Model(
        inputs, {LOGITS: enlarged(coarse, inputs), PRESENCE: presence}, name=f"{backbone}_joint"
    )


@keras.saving.register_keras_serializable("voclab")
class Evidence(layers.Layer):
    """The highest log-probability of each class but the background over all places, scaled and shifted.

    Shape: (B, h, w, C) logits -> (B, C - 1).
    """

    def build(self, shape):
        """Two numbers a class; they start where a class seen nowhere counts against itself a little."""
        constant = keras.initializers.Constant
        self.scale = self.add_weight(shape=(shape[-1] - 1,), initializer=constant(0.5), name="scale")
        self.shift = self.add_weight(shape=(shape[-1] - 1,), initializer=constant(-1.0), name="shift")

    def call(self, x):
        return self.scale * ops.max(ops.log_softmax(x), axis=(1, 2))[:, 1:] + self.shift

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1] - 1)


def classifier_of(model: keras.Model) -> keras.Model:
    """The classifier in a network of :func:`build_joint`: pixels -> (B, classes - 1) logits."""
    return keras.Model(model.inputs, model.get_layer(PRESENCE).output, name=f"{model.name}_classifier")


def segmenter_of(model: keras.Model) -> keras.Model:
    """The segmenter in a network of :func:`build_joint`: pixels -> (B, H, W, classes) logits."""
    return keras.Model(model.inputs, model.get_layer(LOGITS).output, name=f"{model.name}_segmenter")
