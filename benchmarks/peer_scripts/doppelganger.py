"""Train DoppelGANger on series and classes, and draw from it: in a virtual environment of its own.

    PYTHON doppelganger.py IN.npz OUT.npz EPOCHS

IN holds ``points`` (float, flows x channels x bins) and ``labels`` (numbers); OUT the same, drawn.
"""

import sys
import time

import numpy as np
import torch
from gretel_synthetics.timeseries_dgan.config import DGANConfig, OutputType
from gretel_synthetics.timeseries_dgan.dgan import DGAN

source, target, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(0)
np.random.seed(0)  # noqa: NPY002 - it draws from this one
given = np.load(source)
features = given["points"].transpose(0, 2, 1).astype(float)
labels = given["labels"][:, None].astype(float)
config = DGANConfig(max_sequence_len=features.shape[1], sample_len=8, batch_size=64, epochs=epochs, cuda=False)
model = DGAN(config)
begun = time.perf_counter()
model.train_numpy(
    features=features,
    feature_types=[OutputType.CONTINUOUS] * features.shape[2],
    attributes=labels,
    attribute_types=[OutputType.DISCRETE],
)
print(f"{time.perf_counter() - begun:.0f}")
drawn, points = model.generate_numpy(len(features))
np.savez(target, points=np.asarray(points, float).transpose(0, 2, 1), labels=np.asarray(drawn).ravel().astype(int))
