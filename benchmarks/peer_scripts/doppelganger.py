"""Train DoppelGANger and sample flows of each class; runs in a virtual environment of its own.

    PYTHON doppelganger.py IN.npz OUT.npz MINUTES SEED THREADS

IN holds ``points`` (float, flows x channels x bins), ``labels`` (class indices) and ``counts``, the flows to sample of
each class. OUT holds the sampled ``points`` and ``labels``. Prints the cost as one line of JSON. The model samples
classes in the mixture it has learned, so this samples until each class has its flows, but at most 20 times as many
flows as are needed.
"""

import contextlib
import json
import sys
import time
from typing import Any

import numpy as np
import torch
from gretel_synthetics.timeseries_dgan.config import DGANConfig, OutputType
from gretel_synthetics.timeseries_dgan.dgan import DGAN
from torch.utils.flop_counter import FlopCounterMode

MAX_ROUNDS = 20  # of sampling as many flows as are needed
BATCH = 64
FLOP_SAMPLES = 64  # whose FLOPs are counted


class TimeUpError(Exception):
    pass


source, target = sys.argv[1:3]
minutes, seed, threads = float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
torch.set_num_threads(threads)
torch.manual_seed(seed)
np.random.seed(seed)  # noqa: NPY002 - the library uses this generator
data = np.load(source)
features = data["points"].transpose(0, 2, 1).astype(float)
missing = data["counts"].copy()
model = DGAN(DGANConfig(max_sequence_len=features.shape[1], sample_len=8, batch_size=BATCH, epochs=10**9, cuda=False))
start, steps, epoch = time.monotonic(), 0, 0


def check_time(progress: Any) -> None:
    global steps, epoch
    steps, epoch = steps + 1, progress.epoch + 1
    if time.monotonic() - start > 60 * minutes:
        raise TimeUpError


with contextlib.suppress(TimeUpError):
    model.train_numpy(
        features=features,
        feature_types=[OutputType.CONTINUOUS] * features.shape[2],
        attributes=data["labels"][:, None].astype(float),
        attribute_types=[OutputType.DISCRETE],
        progress_callback=check_time,
    )
train_seconds = time.monotonic() - start
number, n_sampled, rows, labels = int(missing.sum()), 0, [], []
start = time.monotonic()
while missing.any() and n_sampled < MAX_ROUNDS * number:
    sampled_labels, points = model.generate_numpy(number)
    n_sampled += number
    for label, point in zip(np.asarray(sampled_labels).ravel().astype(int), np.asarray(points, float), strict=True):
        if missing[label]:
            missing[label] -= 1
            rows.append(point.T)
            labels.append(label)
seconds = time.monotonic() - start
np.savez(target, points=np.array(rows), labels=np.array(labels, int))
with FlopCounterMode(display=False) as counter, torch.backends.mkldnn.flags(enabled=False):
    model.generate_numpy(FLOP_SAMPLES)  # without oneDNN, whose LSTM is one operation that is not counted
print(
    json.dumps(
        {
            "minutes": train_seconds / 60,
            "steps": steps,
            "epochs": epoch,
            "parameters": sum(weights.numel() for weights in model.generator.parameters()),
            "flops": counter.get_total_flops() / FLOP_SAMPLES,
            "flows_per_second": n_sampled / seconds,
            "sampled": n_sampled,
        }
    )
)
