#!/usr/bin/env python3
"""forward: what PyTorch and ONNX Runtime make of the forward pass of the peers' networks, from memory.

    forward.py NET FILE.onnx [--threads T] [--batch B] [--seconds S]

NET is cnn or mlp of nets.py, which has to be importable (PYTHONPATH); prints images/s of each, the median of five."""

import argparse
import statistics
import time

import numpy
import onnxruntime
import torch

import nets


def rate(batch, seconds, forward):
    def run():
        begin, n = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            forward()
            n += batch
        return n / (time.perf_counter() - begin)
    run()
    return statistics.median(run() for _ in range(5))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", choices=("cnn", "mlp"))
    parser.add_argument("onnx")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=1)
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    net = getattr(nets, words.net)().eval()
    x = torch.rand(words.batch, 1, 28, 28)
    with torch.inference_mode():
        print(f"pytorch: {rate(words.batch, words.seconds, lambda: net(x)):.0f} images/s")
        if words.net == "cnn":
            net, last = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
            print(f"channels_last: {rate(words.batch, words.seconds, lambda: net(last)):.0f} images/s")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = words.threads
    session = onnxruntime.InferenceSession(words.onnx, options, providers=["CPUExecutionProvider"])
    feed = {"x": numpy.asarray(x)}
    print(f"onnxruntime: {rate(words.batch, words.seconds, lambda: session.run(None, feed)):.0f} images/s")


if __name__ == "__main__":
    main()
