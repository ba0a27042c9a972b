#!/usr/bin/env python3
"""made_pytorch: what PyTorch makes of the images of FOLDER/train/<label>/*.png, as one would do it by hand.

    made_pytorch.py FOLDER PRESENTATIONS SEED

Prints two accuracies on the images of FOLDER/test, in percent: of softmax regression on the pixels, which says how hard they are,
and of a convolutional network with batch normalisation (for colour of residual blocks), trained in one go over all
images with a one-cycle schedule, images turned, stretched and moved each time, and colour ones mirrored.
"""

import sys
from pathlib import Path

import numpy
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

folder = Path(sys.argv[1])
presentations, seed = map(int, sys.argv[2:])
labels = sorted(path.name for path in (folder / "train").iterdir())
batch = 128
torch.manual_seed(seed)
torch.set_num_threads(2)


def load(what):
    paths = sorted((folder / what).glob("*/*.png"))
    x = numpy.stack([numpy.asarray(Image.open(path)) for path in paths])
    y = [labels.index(path.parent.name) for path in paths]
    return torch.from_numpy(x.reshape(*x.shape[:3], -1)).permute(0, 3, 1, 2).contiguous(), torch.tensor(y)


def changed(x):
    """Turned by up to 10 degrees, each side stretched by up to a tenth, moved by up to 7 % of it."""
    def either(most):
        return (2 * torch.rand(len(x)) - 1) * most

    angle, wide, high = either(0.17), 1 + either(0.1), 1 + either(0.1)
    if channels == 3:
        wide = wide * torch.where(torch.rand(len(x)) < 0.5, -1.0, 1.0)
    ratio = height / width
    rows = [torch.cos(angle) * wide, -torch.sin(angle) * ratio * high, either(0.14),
            torch.sin(angle) / ratio * wide, torch.cos(angle) * high, either(0.14)]
    grid = functional.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), x.shape, align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def train(net, rate, decay, change):
    steps = presentations // batch
    optimizer = torch.optim.SGD(net.parameters(), lr=rate / 10, momentum=0.9, nesterov=True, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    net.train()
    for _ in range(steps):
        pick = torch.randint(len(x), (batch,))
        images = (x[pick].float() - mean) / deviation
        optimizer.zero_grad()
        loss(net(changed(images) if change else images), y[pick]).backward()
        optimizer.step()
        schedule.step()
    net.eval()
    with torch.inference_mode():
        right = sum((net((a.float() - mean) / deviation).argmax(1) == b).sum().item()
                    for a, b in zip(xt.split(500), yt.split(500)))
    return 100 * right / len(xt)


def conv(inputs, outputs, stride=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.one, self.two = conv(inputs, outputs, stride), conv(outputs, outputs)
        self.past = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return functional.relu(self.past(x) + self.two(functional.relu(self.one(x))))


def network():
    """For colour the layers of Darkroom's resnet-small; for characters four convolutions, somewhat more than its cnn."""
    if channels == 3:
        body = [conv(3, 16, 2), nn.ReLU(), Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2), Block(64, 128, 2)]
    else:
        body = [conv(1, 32), nn.ReLU(), nn.MaxPool2d(2), conv(32, 64), nn.ReLU(), nn.MaxPool2d(2),
                conv(64, 96), nn.ReLU(), nn.MaxPool2d(2), conv(96, 128), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, len(labels)))


x, y = load("train")
xt, yt = load("test")
channels, height, width = x.shape[1:]
mean, deviation = x[:500].float().mean(), x[:500].float().std()
linear = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), len(labels)))
cnn = network().to(memory_format=torch.channels_last)
print(f"{train(linear, 0.005, 1e-4, False):.2f} {train(cnn, 0.1, 5e-4, True):.2f}")
