"""DoppelGANger learns flows and draws as many of each class; runs in a virtual environment of its own.

    PYTHON doppelganger.py IN.npz OUT.npz MINUTES SEED THREADS

IN holds ``points`` (float, flows x channels x bins), ``labels`` (numbers), and ``wanted``, the number of
flows of each class; OUT ``points`` and ``labels``, drawn. Prints one line of JSON: what it took. It
draws classes in the mixture it has learnt, so it draws until each class has its flows, or for 20 times
as many flows as are wanted in all.
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

PARTS, BATCH, COUNTED = 20, 64, 64


class TimeIsUp(Exception):
    pass


source, target = sys.argv[1:3]
minutes, seed, threads = float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
torch.set_num_threads(threads)
torch.manual_seed(seed)
np.random.seed(seed)  # noqa: NPY002 - it draws from this one
given = np.load(source)
features = given["points"].transpose(0, 2, 1).astype(float)
missing = given["wanted"].copy()
model = DGAN(DGANConfig(max_sequence_len=features.shape[1], sample_len=8, batch_size=BATCH, epochs=10**9, cuda=False))
begun, steps, epoch = time.monotonic(), 0, 0


def look(progress: Any) -> None:
    global steps, epoch
    steps, epoch = steps + 1, progress.epoch + 1
    if time.monotonic() - begun > 60 * minutes:
        raise TimeIsUp


with contextlib.suppress(TimeIsUp):
    model.train_numpy(
        features=features,
        feature_types=[OutputType.CONTINUOUS] * features.shape[2],
        attributes=given["labels"][:, None].astype(float),
        attribute_types=[OutputType.DISCRETE],
        progress_callback=look,
    )
took = time.monotonic() - begun
number, drawn, rows, labels = int(missing.sum()), 0, [], []
begun = time.monotonic()
while missing.any() and drawn < PARTS * number:
    said, points = model.generate_numpy(number)
    drawn += number
    for label, point in zip(np.asarray(said).ravel().astype(int), np.asarray(points, float), strict=True):
        if missing[label]:
            missing[label] -= 1
            rows.append(point.T)
            labels.append(label)
seconds = time.monotonic() - begun
np.savez(target, points=np.array(rows), labels=np.array(labels, int))
with FlopCounterMode(display=False) as counter, torch.backends.mkldnn.flags(enabled=False):
    model.generate_numpy(COUNTED)  # oneDNN's LSTM is one operation, whose FLOPs nothing counts
print(
    json.dumps(
        {
            "minutes": took / 60,
            "steps": steps,
            "epochs": epoch,
            "parameters": sum(each.numel() for each in model.generator.parameters()),
            "flops": counter.get_total_flops() / COUNTED,
            "flows_per_second": drawn / seconds,
            "drawn": drawn,
        }
    )
)
