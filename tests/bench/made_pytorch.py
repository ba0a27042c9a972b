#!/usr/bin/env python3
"""made_pytorch: what PyTorch makes of the images that `bench_learn --write` wrote, with as many presentations.

    made_pytorch.py FOLDER HEIGHT WIDTH CHANNELS CLASSES [PASSES]

Prints the accuracy of softmax regression on the pixels, which shows that they are hard, and of a convolutional
network of four convolutions with batch normalisation, trained in one go with a one-cycle schedule.
"""

import sys

import numpy
import torch
from torch import nn

folder, height, width, channels, classes = sys.argv[1], *map(int, sys.argv[2:6])
passes = int(sys.argv[6]) if len(sys.argv) > 6 else 8
torch.manual_seed(1)
torch.set_num_threads(2)


def load(what):
    x = numpy.fromfile(f"{folder}/{what}.x", numpy.uint8).reshape(-1, height, width, channels)
    y = numpy.fromfile(f"{folder}/{what}.y", numpy.uint8)
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(y).long()


def train(net, x, y, rate, decay):
    batch = 128
    steps = passes * len(x) // batch
    optimizer = torch.optim.SGD(net.parameters(), lr=rate / 10, momentum=0.9, nesterov=True, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    net.train()
    for _ in range(steps):
        pick = torch.randint(len(x), (batch,))
        optimizer.zero_grad()
        loss(net((x[pick].float() - 110) / 60), y[pick]).backward()
        optimizer.step()
        schedule.step()


def accuracy(net, x, y):
    net.eval()
    with torch.inference_mode():
        right = sum((net((a.float() - 110) / 60).argmax(1) == b).sum().item() for a, b in zip(x.split(500), y.split(500)))
    return 100 * right / len(x)


def block(inputs, outputs, pool):
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return layers + ([nn.MaxPool2d(2)] if pool else [])


x, y = load("train")
xt, yt = load("test")
linear = nn.Sequential(nn.Flatten(), nn.Linear(height * width * channels, classes))
train(linear, x, y, 0.005, 1e-4)
print(f"softmax regression  {accuracy(linear, xt, yt):6.2f} %", flush=True)
cnn = nn.Sequential(*block(channels, 32, True), *block(32, 64, True), *block(64, 96, True), *block(96, 128, False),
                    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))
train(cnn, x, y, 0.1, 5e-4)
print(f"PyTorch CNN         {accuracy(cnn, xt, yt):6.2f} %  ({sum(p.numel() for p in cnn.parameters()):,} parameters)")
