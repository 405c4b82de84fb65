"""Batches of the task `sequences` from the helper print_batch, and files for tests."""
import os
import subprocess

import h5py
import numpy as np

PRINT_BATCH = os.environ["SPIKEFLOSS_PRINT_BATCH"]


class Batch:
    def __init__(self, data, remarks):
        T, b, M, O, self.size, self.bits = np.frombuffer(data, np.int64, 6)
        rest = data[48:]

        def take(kind, *shape):
            nonlocal rest
            count = int(np.prod(shape))
            values = np.frombuffer(rest, kind, count).reshape(shape)
            rest = rest[4 * count:]
            return values

        self.x, self.mask = take(np.float32, T, b, M), take(np.float32, T, b)
        self.outputs, self.remarks = O, remarks
        if len(rest) == 4 * b:
            self.label = take(np.int32, b)
        else:
            self.target = take(np.float32, T, b, O)
        assert not rest


def run(purpose, step, batch, *settings, part=None):
    first, end = part or (0, batch)
    words = [PRINT_BATCH, purpose, step, batch, first, end, *settings]
    return subprocess.run([str(word) for word in words], capture_output=True, timeout=60, check=False)


def batch_of(purpose, step, batch, *settings, part=None):
    result = run(purpose, step, batch, *settings, part=part)
    if result.returncode:
        raise AssertionError(result.stderr.decode())
    return Batch(result.stdout, result.stderr.decode())


def write_events(path, times, units, labels, time_type=np.float32, unit_type=np.uint16, **more):
    """A file in the layout of SHD. None leaves a dataset out."""
    with h5py.File(path, "w") as file:
        for name, lists, kind in (("times", times, time_type), ("units", units, unit_type)):
            if lists is None:
                continue
            data = file.create_dataset(f"spikes/{name}", (len(lists),), dtype=h5py.vlen_dtype(kind))
            for i, values in enumerate(lists):
                data[i] = np.asarray(values, kind)
        if labels is not None:
            file["labels"] = labels
        for name, values in more.items():
            file[name.replace("__", "/")] = values


# Philox4x32-10 (Salmon et al., SC 2011), and the streams of core/random.hpp.
SHUFFLE, AUGMENTATION = 6, 8
PURPOSES = ("train", "test", "floss", "diagnose", "validation")


def words(seed, stream, *counter):
    x, low = list(counter), 0xFFFFFFFF
    key = [seed & low, seed >> 32 ^ (0x9E3779B9 * (stream + 1) & low)]
    for _ in range(10):
        a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [b >> 32 ^ x[1] ^ key[0], b & low, a >> 32 ^ x[3] ^ key[1], a & low]
        key = [key[0] + 0x9E3779B9 & low, key[1] + 0xBB67AE85 & low]
    return x


def permuted(seed, purpose, epoch, size, position):
    """Element of a permutation, as src/tasks/permutation.cpp describes it."""
    a = int(np.ceil(np.sqrt(size)))
    b = -(-size // a)
    while True:
        l, r = divmod(position, b)
        for k in range(0, 8, 2):
            l = (l + (words(seed, SHUFFLE, epoch, r, k, PURPOSES.index(purpose))[0] * a >> 32)) % a
            r = (r + (words(seed, SHUFFLE, epoch, l, k + 1, PURPOSES.index(purpose))[0] * b >> 32)) % b
        position = l * b + r
        if position < size:
            return position
