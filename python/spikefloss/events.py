"""Sequences of users as arrays: events and arrays in the layouts of docs/data.md, as the task `sequences` reads them."""
from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import warnings
from typing import Any

import h5py  # type: ignore[import]
import numpy as np

from ._errors import noted

_LAYOUTS = "docs/data.md shows the layouts, and how to write them with h5py"
_UNITS = {"s": 1e3, "ms": 1.0, "us": 1e-3}  # in ms
_MOST_CHANNELS, _MOST_CLASSES, _LONGEST = 65536, 1_000_000, 100.0  # the last in s


def load_events(source: str | os.PathLike[str] | Any, steps: int | None = None, seconds: float = 1.0, group: int = 1, *,
                channels: int | None = None, binary: bool = False,
                time_unit: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(x [T, B, M], label [B]) of a file of docs/data.md, also as .h5.gz, or of a data set as those of tonic.

    Events: the first `seconds` of each sequence are counted in T = `steps` steps (None: 1 ms each) and in groups of `group`
    channels (as task.channels_per_input). channels: None: the largest plus 1. binary: 1 for at least one event. time_unit:
    "s", "ms" or "us"; None: s in files, us in a data set. Of arrays, a row is a step: T = steps, or as many as the file
    has. Shorter sequences end with zeros; what is cut off or left out is a warning.

    A data set has len() and gives (events, label), where events have the fields t, x, and y and p if `sensor_size`
    (width, height, polarities) has several; the channel is (p height + y) width + x.

    x is uint8 for counts, and for arrays of integers, from 0 to 255; else float32. A file with a target gives it, float32
    [T, B, O], in place of the label. A mask is not read. The numbers are those of task.file with network.dt = seconds/T.
    Raises ValueError for a bad file or argument.
    """
    for name, value in (("steps", steps), ("group", group), ("channels", channels)):
        if value is not None and (value != int(value) or value < 1):
            raise noted(ValueError, f"{name} is {value} but must be a whole number of at least 1",
                        "leave it out for the default")
    if not seconds > 0 or time_unit not in (None, *_UNITS):
        raise noted(ValueError, f"seconds is {seconds} and time_unit {time_unit!r}",
                    "use more than 0, and 's', 'ms' or 'us'")
    options = steps, seconds, group, channels, binary
    if not isinstance(source, (str, os.PathLike)):
        return _count(_Recordings.of_dataset(source), time_unit or "us", *options)
    path = os.fspath(source)
    with tempfile.TemporaryFile() as unpacked, _opened(path, unpacked) as file:
        place = next((part for part in (file, file.get("sequences")) if part is not None
                      and ("x" in part or "spikes/times" in part or "spikes/units" in part)), None)
        if place is None:
            raise _wrong(path, "it has neither events (spikes/times and spikes/units) nor a dense x [samples, T, M]")
        if "x" in place and "spikes" in place:
            raise _wrong(path, "x and spikes are both there", "keep one of the two")
        if "x" in place:
            return _rows(path, place, steps, group, channels, binary)
        return _count(_Recordings.of_file(path, place), time_unit, *options)


def _wrong(path, problem, advice=_LAYOUTS):
    return noted(ValueError, f"{path}: {problem}", advice)


def _opened(path, unpacked):
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        if not packed:
            return h5py.File(path, "r")
        with gzip.open(path) as file:
            shutil.copyfileobj(file, unpacked)
        return h5py.File(unpacked, "r")
    except FileNotFoundError:
        raise _wrong(path, "there is no such file", "check the path") from None
    except EOFError:
        raise _wrong(path, "it breaks off: it is not all of a gzip file", "copy it again") from None
    except OSError as fault:
        raise _wrong(path, f"it is not an HDF5 file ({fault})") from None


# ---- events ---------------------------------------------------------------------------------------------------------


class _Recordings:
    """Times and channels of each sequence, and labels."""

    def __init__(self, path, times, units, label):
        self.path, self.times, self.units, self.label = path, times, units, label

    @classmethod
    def of_file(cls, path, place):
        lists = []
        for name in ("spikes/times", "spikes/units"):
            if name not in place:
                raise _wrong(path, f"dataset {place.name.rstrip('/')}/{name} is missing")
            data = place[name]
            if data.ndim != 1 or len(data) < 1 or h5py.check_vlen_dtype(data.dtype) is None:
                raise _wrong(path, f"{data.name} has shape {list(data.shape)} and must be [samples], one list of numbers "
                             "for each sequence (in h5py: dtype=h5py.vlen_dtype(numpy.float32))")
            lists.append(data[:])
        times, units = lists
        if len(times) != len(units):
            raise _wrong(path, f"spikes/times has {len(times)} lists, but spikes/units has {len(units)}",
                         "every sequence has as many channels as times")
        return cls(path, times, units, _labels(path, place, len(times)))

    @classmethod
    def of_dataset(cls, dataset):
        kind = type(dataset).__name__
        try:
            samples = [dataset[i] for i in range(len(dataset))]
            width, height, _ = sensor = tuple(getattr(dataset, "sensor_size", None) or (1, 1, 1))
            times, units = [], []
            for events, _ in samples:
                unit = np.asarray(events["x"], np.int64)
                if sensor[1] > 1:
                    unit = unit + width * np.asarray(events["y"], np.int64)
                if sensor[2] > 1:
                    unit = unit + width * height * np.asarray(events["p"], np.int64)
                times.append(np.asarray(events["t"]))
                units.append(unit)
        except (TypeError, ValueError, KeyError, IndexError) as fault:
            raise noted(TypeError, f"{kind} is neither a path nor a data set of (events, label): {fault}",
                        "events must be an array with the fields t and x, as those of tonic") from None
        return cls(kind, times, units, _whole(kind, "its labels", np.array([label for _, label in samples])))


def _checked(given, time_unit):
    """Times in ms as float32 times a factor, which is given, and channels; as src/sequences/event_lists.cpp."""
    largest, whole = 0.0, True
    for i, (times, units) in enumerate(zip(given.times, given.units)):
        times, units = np.asarray(times), np.asarray(units)
        if len(times) != len(units):
            raise _wrong(given.path, f"spikes/times[{i}] has {len(times)} events, but spikes/units[{i}] has {len(units)}",
                         "every event has one time and one channel")
        for name, values, bad, what, advice in (
                ("times", times, ~((times >= 0) & (times < np.inf)), "a time of at least 0",
                 "times are counted from the beginning of the sequence"),
                ("units", units, ~((units >= 0) & (units < _MOST_CHANNELS)) | (units != np.trunc(units)),
                 f"a channel, 0 to {_MOST_CHANNELS - 1}", "number the channels 0, 1, 2, ...")):
            if bad.any():
                at = int(np.argmax(bad))
                raise _wrong(given.path, f"spikes/{name}[{i}][{at}] is {values[at]} but must be {what}", advice)
        largest = max(largest, float(times.max(initial=0)))
        whole = whole and times.dtype.kind in "biu"
    if not any(len(times) for times in given.times):
        raise _wrong(given.path, "none of its sequences has an event")
    if time_unit is None:
        if largest > _LONGEST or (whole and largest > 0):
            guess = "ms" if largest <= 1000 * _LONGEST else "us"
            raise _wrong(given.path, f"the times go up to {largest:g}{' and are whole numbers' if whole else ''}; as "
                         f"seconds that is {largest / 60:.3g} minutes, so they look like {guess}",
                         f"give time_unit='{guess}', or 's' if they are seconds")
        time_unit = "s"
    return _UNITS[time_unit]


def _count(given, time_unit, steps, seconds, group, channels, binary):
    unit = _checked(given, time_unit)
    T = max(1, round(seconds * 1000)) if steps is None else int(steps)
    scale = unit / (seconds * 1e3 / T) * (1 + 2.0 ** -23)  # float32 may round a time to just below its step
    largest = max(int(np.max(units, initial=0)) for units in given.units) + 1
    channels = largest if channels is None else int(channels)
    M, B = -(-channels // group), len(given.times)
    x = np.zeros((T, B, M), np.uint8)
    late = beyond = cut = events = 0
    for i, (times, units) in enumerate(zip(given.times, given.units)):
        step = (np.asarray(times).astype(np.float32).astype(float) * scale).astype(np.float32)
        unit = np.asarray(units).astype(np.int64)
        outside = step >= T
        late, beyond, cut, events = late + outside.sum(), beyond + (unit >= channels).sum(), cut + outside.any(), \
            events + len(unit)
        kept = ~outside & (unit < channels)
        number = np.bincount(step[kept].astype(np.int64) * M + unit[kept] // group, minlength=T * M).reshape(T, M)
        if binary:
            number = number > 0
        if x.dtype == np.uint8 and number.max() > 255:
            x = x.astype(np.float32)
        x[:, i] = number
    if cut:
        warnings.warn(f"{given.path}: {cut} of {B} sequences are longer than {seconds} s; the rest of them is cut off "
                      f"({late} of {events} events)", stacklevel=3)
    if beyond:
        warnings.warn(f"{given.path}: {beyond} of {events} events have channels beyond channels = {channels} and are left "
                      "out", stacklevel=3)
    return x, given.label


# ---- arrays ---------------------------------------------------------------------------------------------------------


def _rows(path, place, steps, group, channels, binary):
    time_first = place.name != "/"
    x = place["x"]
    if x.dtype.kind not in "biuf":
        raise _wrong(path, f"{x.name} holds {x.dtype}, not numbers")
    if x.ndim != 3 or 0 in x.shape:
        raise _wrong(path, f"{x.name} has shape {list(x.shape)} but must be "
                     f"{'[T, B, M]' if time_first else '[samples, T, M]'}, all above 0")
    if channels is not None and channels != x.shape[2]:
        raise _wrong(path, f"channels = {channels}, but {x.name} has {x.shape[2]} inputs", "leave channels out")
    target = place.get("target")
    if target is not None and (target.ndim != 3 or target.shape[:2] != x.shape[:2]):
        raise _wrong(path, f"{target.name} has shape {list(target.shape)} but must be {[*x.shape[:2], 'O']}")

    def turned(data):
        values = data[:] if time_first else np.moveaxis(data[:], 0, 1)
        if values.dtype.kind == "f" and np.isnan(values).any():
            at = np.argwhere(np.isnan(values))[0]
            index = [int(k) for k in (at if time_first else at[[1, 0, 2]])]
            raise _wrong(path, f"{data.name}{index} is not a number")
        return values

    values = turned(x)
    given, B, M = values.shape[0], values.shape[1], -(-values.shape[2] // group)
    if target is not None and ("label" in place or "labels" in place):
        raise _wrong(path, "it has both labels and a target", "keep the one for the loss that you need")
    label = _labels(path, place, B) if target is None else turned(target).astype(np.float32)
    length = np.full(B, given)
    if "length" in place:
        length = _whole(path, place["length"].name, place["length"][()])
        if length.shape != (B,) or (length < 1).any() or (length > given).any():
            raise _wrong(path, f"{place['length'].name} must be 1 to {given}, the steps of x, for each of the {B} "
                         "sequences", "write the number of steps of each sequence")
    T = given if steps is None else int(steps)
    if (length > T).any():
        warnings.warn(f"{path}: {(length > T).sum()} of {B} sequences are longer than {T} steps; the rest of them is cut "
                      "off", stacklevel=3)
    inside = np.arange(T)[:, None] < length

    def fitted(array):
        kept = np.zeros((T, *array.shape[1:]), array.dtype)
        kept[:given] = array[:T]
        return np.where(inside[..., None], kept, np.zeros(1, array.dtype))

    summed = np.zeros((given, B, M), np.float32)
    for k in range(group):  # in the order of the program
        columns = values[..., k::group].astype(np.float32)
        summed[..., :columns.shape[2]] += columns
    summed = fitted(summed)
    if binary:
        summed = (summed > 0).astype(np.float32)
    small = values.dtype.kind in "biu" and summed.min() >= 0 and summed.max() <= 255
    return summed.astype(np.uint8) if small else summed, label if target is None else fitted(label)


def _labels(path, place, count):
    name = next((word for word in ("labels", "label") if word in place), None)
    if name is None:
        raise _wrong(path, "it has neither labels nor a target")
    data = place[name]
    if data.shape != (count,):
        raise _wrong(path, f"{data.name} has shape {list(data.shape)} but must have one number for each of the {count} "
                     "sequences")
    return _whole(path, data.name, data[:])


def _whole(path, name, values):
    values = np.asarray(values)
    bad = np.ones(values.shape, bool) if values.dtype.kind not in "biuf" else \
        ~((values >= 0) & (values <= _MOST_CLASSES)) | (values != np.trunc(values))
    if values.ndim != 1 or bad.any():
        at = int(np.argmax(bad.reshape(-1)))
        raise _wrong(path, f"{name}[{at}] is {values.reshape(-1)[at]} but must be a whole number of at least 0",
                     "number the classes 0, 1, 2, ...")
    return values.astype(np.int64)
