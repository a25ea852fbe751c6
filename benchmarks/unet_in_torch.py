"""The U-Net of voclab.models.segmenters.build_unet, its losses and PGD written in PyTorch, for comparison."""

import numpy as np
import torch
import torch.nn.functional as functional
from torch import nn

VOID = 255


class Block(nn.Module):
    """Two times convolution, normalisation, ReLU, and the input added to the result."""

    def __init__(self, before: int, channels: int):
        super().__init__()
        self.shortcut = nn.Conv2d(before, channels, 1, bias=False) if before != channels else nn.Identity()
        self.first, self.second = Unit(before, channels, 3), Unit(channels, channels, 3)

    def forward(self, x):
        return self.shortcut(x) + self.second(self.first(x))


class Unit(nn.Module):
    """Convolution, batch normalisation and ReLU; padding as TensorFlow's "same"."""

    def __init__(self, before: int, channels: int, kernel: int, stride: int = 1):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(
            before, channels, kernel, stride, padding=0 if stride > 1 else kernel // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.1)

    def forward(self, x):
        if self.stride > 1:  # an even size gets its row of zeros below and to the right
            x = functional.pad(x, (0, 1, 0, 1))
        return functional.relu(self.norm(self.conv(x)))


class UNet(nn.Module):
    """(B, 3, H, W) in [0, 1] -> (B, classes, H, W) logits; sides that 2 ** (depth + 1) divides."""

    def __init__(self, classes: int, width: int, depth: int):
        super().__init__()
        sizes = [width * 2**level for level in range(depth + 1)]
        self.stem = Unit(3, width, 3, stride=2)
        pairs = zip([width, *sizes], sizes, strict=False)
        self.encoder = nn.ModuleList(Block(before, size) for before, size in pairs)
        self.context = nn.Conv2d(sizes[-1], sizes[-1], 1)
        falling = list(reversed(range(depth)))
        self.narrow = nn.ModuleList(Unit(sizes[level + 1], sizes[level], 1) for level in falling)
        self.decoder = nn.ModuleList(Block(2 * sizes[level], sizes[level]) for level in falling)
        self.logits = nn.Conv2d(width, classes, 1)

    def forward(self, pixels):
        x, kept = self.stem(2 * pixels - 1), []
        for level, block in enumerate(self.encoder):
            x = block(functional.max_pool2d(x, 2) if level else x)
            kept.append(x)
        x = x + self.context(x.mean((2, 3), keepdim=True))
        for narrow, block, skip in zip(self.narrow, self.decoder, kept[-2::-1], strict=True):
            x = _resized(narrow(x), skip)
            x = block(torch.cat([x, skip], 1))
        return _resized(self.logits(x), pixels)


def _resized(x, like):
    return functional.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


def loss(logits, maps):
    """Cross-entropy plus soft Dice over the classes in the batch's truth; void left out."""
    flat, truth = logits.movedim(1, -1).reshape(-1, logits.shape[1]), maps.reshape(-1)
    known = truth != VOID
    flat, truth = flat[known], truth[known]
    shares, one_hot = flat.softmax(-1), functional.one_hot(truth, logits.shape[1]).float()
    there = one_hot.sum(0)
    dice = 2 * (shares * one_hot).sum(0) / (shares.sum(0) + there)
    return functional.cross_entropy(flat, truth) + (1 - dice)[there > 0].mean()


def pgd(model, images, maps, epsilon: float, steps: int, step: float):
    """PGD on the mean margin of the pixels, cut off at 1, from the image itself: (B, 3, H, W)."""
    known, truth = maps != VOID, torch.where(maps == VOID, 0, maps)
    moved = images.clone()
    for _ in range(steps):
        moved.requires_grad_(True)
        logits = model(moved)
        chosen = functional.one_hot(truth, logits.shape[1]).movedim(-1, 1).bool()
        margin = logits.masked_fill(chosen, -1e9).amax(1) - (logits * chosen).sum(1)
        (gradient,) = torch.autograd.grad((margin.clamp(max=1.0) * known).sum(), moved)
        moved = moved.detach() + step * epsilon * gradient.sign()
        moved = torch.clamp(torch.minimum(torch.maximum(moved, images - epsilon), images + epsilon), 0, 1)
    return moved


def with_weights(known: dict[str, list[np.ndarray]], classes: int, width: int, depth: int) -> UNet:
    """The same network, with the weights of the layers of one that ``build_unet`` made, by their names."""
    model = UNet(classes, width, depth)

    def weights(name):
        return [torch.tensor(x) for x in known[name]]

    def convolution(layer, name):
        kernel, *bias = weights(name)
        layer.weight.data = kernel.permute(3, 2, 0, 1).contiguous()
        if bias:
            layer.bias.data = bias[0]

    def unit(layer, name):
        convolution(layer.conv, f"{name}_conv")
        norm = layer.norm
        norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var = weights(f"{name}_bn")

    def block(layer, name):
        if not isinstance(layer.shortcut, nn.Identity):
            convolution(layer.shortcut, f"{name}_shortcut")
        unit(layer.first, f"{name}_1")
        unit(layer.second, f"{name}_2")

    unit(model.stem, "stem")
    for level, layer in enumerate(model.encoder):
        block(layer, f"encoder{level}")
    convolution(model.context, "whole_projected")
    for at, level in enumerate(reversed(range(depth))):
        unit(model.narrow[at], f"narrow{level}")
        block(model.decoder[at], f"decoder{level}")
    convolution(model.logits, "coarse_logits")
    return model
