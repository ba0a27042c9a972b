#!/usr/bin/env python3
"""noisy: a folder of images made harder, for what a probability is worth where a model is often wrong.

    noisy.py FOLDER OUT [--noise 0.8]

Adds to every <label>/<id>.png below FOLDER normal noise of so many times 255, drawn from the file's name, and writes
it as grey PNG below OUT. Needs numpy and Pillow."""

import argparse
import pathlib
import zlib

import numpy
from PIL import Image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--noise", type=float, default=0.8)
    words = parser.parse_args()
    files = sorted(words.folder.rglob("*.png"))
    if not files:
        raise SystemExit(f"no .png below {words.folder}")
    for file in files:
        name = file.relative_to(words.folder)
        draw = numpy.random.default_rng(zlib.crc32(str(name).encode()))
        with Image.open(file) as image:
            x = numpy.asarray(image.convert("L"), dtype=numpy.float32)
        x = x + draw.normal(0, 255 * words.noise, x.shape)
        to = words.out / name
        to.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x.clip(0, 255).astype(numpy.uint8)).save(to)


if __name__ == "__main__":
    main()
