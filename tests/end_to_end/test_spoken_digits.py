"""launch/spoken_digits: sound to spikes, on tones and words made here; its files; its errors."""
import contextlib
import gzip
import importlib.util
import io
import runpy
import shutil
import subprocess
import sys
import unittest.mock
import wave

import h5py
import numpy as np
import program

SCRIPT = program.SOURCE / "launch" / "spoken_digits"
CHANNELS = 70


def tone(frequency, seconds=0.12, rate=16000):
    return 0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def write_wave(path, sound, rate=16000, width=2, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.asarray(sound * 32767, {1: "<u1", 2: "<i2"}[width]).tobytes())


def best_channel(frequency):
    """The channel whose place c has the stiffness S(c) = m w^2: C0 exp(-3 c) - 3500 = 0.05 w^2, c = 0..3.5."""
    place = np.log(1e9 / (3500 + 0.05 * (2 * np.pi * frequency)**2)) / 3
    return place / 3.5 * (CHANNELS - 1)


class SpokenDigitsTest(program.ProgramTest):
    def setUp(self):
        super().setUp()
        self.sounds = self.folder / "sounds"
        self.sounds.mkdir()

    def convert(self, *arguments, channels=CHANNELS):
        return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments), "--channels", str(channels)],
                              capture_output=True, text=True, timeout=120)

    def fail(self, fragment, *arguments):
        """Runs the script within this process, which is quicker, and expects its error and no file."""
        stderr = io.StringIO()
        with unittest.mock.patch.object(sys, "argv", [str(SCRIPT), *map(str, arguments)]), \
                contextlib.redirect_stderr(stderr), self.assertRaises(SystemExit) as end:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        self.assertEqual(end.exception.code, 2, stderr.getvalue())
        self.assertRegex(stderr.getvalue(), fragment)
        self.assertEqual(list(self.folder.glob("out*")), [])

    def make(self, out, *arguments, command="recordings"):
        folder = [self.sounds] if command == "recordings" else []
        result = self.convert(command, *folder, self.folder / out, *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return self.folder / f"{out}_train.h5", self.folder / f"{out}_test.h5"

    def test_place_of_a_tone(self):
        frequencies = [250, 500, 1000, 2000, 4000]
        for number, frequency in enumerate(frequencies):
            write_wave(self.sounds / f"{frequency}_tone_{number}.wav", tone(frequency))
        train, test = self.make("tones", "--test-numbers", "0")
        self.assertFalse(test.exists())
        places = []
        with h5py.File(train, "r") as file:
            self.assertEqual(list(file["extra/keys"].asstr()), [str(f) for f in frequencies])
            for units in file["spikes/units"]:
                counts = np.convolve(np.bincount(units, minlength=CHANNELS), np.ones(5), "same")
                places.append(float(np.flatnonzero(counts == counts.max()).mean()))
        self.assertEqual(places, sorted(places, reverse=True), "channel 0 is the highest frequency")
        for place, frequency in zip(places, frequencies):
            self.assertLess(abs(place - best_channel(frequency)), 4, f"{frequency} Hz: {places}")

    def test_files(self):
        for digit in (0, 3):
            for speaker, numbers in (("ann", (0, 7)), ("ben", (0, 7, 9))):
                for number in numbers:
                    write_wave(self.sounds / f"{digit}_{speaker}_{number}.wav", tone(400 + 300 * digit + number, 0.08))
        train, test = self.make("a", "--held-out", "ann", "--numbers", "9")
        with h5py.File(train, "r") as file, h5py.File(test, "r") as other:
            self.assertEqual(list(file["labels"]), [0, 1])  # 7 of ben; number 0 is for the test, 9 is left out
            self.assertEqual(list(file["extra/speaker"]), [1, 1])
            self.assertEqual(list(other["extra/speaker"]), [0, 0, 0, 0, 1, 1])
            self.assertEqual(list(other["labels"]), [0, 1] * 3)
            for f in (file, other):
                self.assertEqual(list(f["extra/keys"].asstr()), ["zero", "three"])
                self.assertEqual(list(f["extra/speaker_names"].asstr()), ["ann", "ben"])
                self.assertEqual(h5py.check_vlen_dtype(f["spikes/times"].dtype), np.float16)
                self.assertEqual(h5py.check_vlen_dtype(f["spikes/units"].dtype), np.uint16)
                for times, units in zip(f["spikes/times"], f["spikes/units"]):
                    self.assertEqual(len(times), len(units))
                    self.assertGreater(len(times), 20)
                    self.assertTrue(np.all(np.diff(times) >= 0))
                    self.assertLess(times.max(), 0.09)
                    self.assertLess(units.max(), CHANNELS)

        # The spikes depend on the seed, and on nothing else: not on processes, other recordings or compression.
        shutil.copytree(self.sounds, self.folder / "copy")
        for path in self.sounds.glob("0_*"):
            path.unlink()
        spikes = {}
        for name, more in (("b", ("--jobs", "1", "--gzip")), ("c", ("--seed", "2"))):
            result = self.convert("recordings", self.sounds, self.folder / name, "--held-out", "ann", *more)
            self.assertEqual(result.returncode, 0, result.stderr)
        packed = gzip.decompress((self.folder / "b_test.h5.gz").read_bytes())
        for name, source in (("a", test), ("b", io.BytesIO(packed)), ("c", self.folder / "c_test.h5")):
            with h5py.File(source, "r") as file:
                keep = file["labels"][:] == (1 if name == "a" else 0)
                spikes[name] = [(t.tolist(), u.tolist()) for t, u, kept in
                                zip(file["spikes/times"], file["spikes/units"], keep) if kept]
        self.assertEqual(spikes["a"], spikes["b"])
        self.assertNotEqual(spikes["a"], spikes["c"])

    def test_voices(self):
        if shutil.which("espeak-ng") is None:
            print("espeak-ng is not installed: its voices are not tested")
            return
        train, test = self.make("v", "--classes", "two,acht,en:yes", "--voices", "m1,f1,f4", "--held-out", "f4",
                                command="voices")
        with h5py.File(train, "r") as file, h5py.File(test, "r") as other:
            self.assertEqual(list(file["labels"]), [0, 0, 1, 1, 2, 2] * 2)
            self.assertEqual(list(other["extra/speaker"]), [2, 2, 2])
            self.assertEqual(list(file["extra/keys"].asstr()), ["two", "acht", "yes"])
            self.assertNotEqual(list(file["spikes/units"][0]), list(file["spikes/units"][1]))
        for fragment, arguments in (("no voice nobody", ("--voices", "nobody", "--held-out", "nobody")),
                                    ("language of yes", ("--classes", "yes"))):
            self.fail(fragment, "voices", self.folder / "out", *arguments)

    def test_errors(self):
        def fail(fragment, *arguments):
            self.fail(fragment, "recordings", self.sounds, self.folder / "out", *arguments)

        fail("no wav file in")
        good = self.sounds / "1_ann_9.wav"
        write_wave(good, tone(500))
        bad = self.sounds / "1_ann_8.wav"
        for fragment, content in (("not a wav file", b"RIFX" + bytes(40)), ("not a wav file", b""),
                                  ("ends after 96 of 1920 samples", good.read_bytes()[:44 + 2 * 96])):
            bad.write_bytes(content)
            fail(f"1_ann_8.wav.*{fragment}|1_ann_8.wav {fragment}")
        for fragment, sound, more in (("is silent", tone(0), {}), ("lasts 0.001 s", tone(500, 0.001), {}),
                                      ("lasts 11 s", tone(500, 11), {}),
                                      ("8 bits", abs(tone(500)) / 200, {"width": 1})):
            write_wave(bad, sound, **more)
            fail("1_ann_8.wav .*" + fragment)
        bad.unlink()
        fail("no speaker bob", "--held-out", "bob")
        fail("no class 7", "--classes", "7")
        fail("no recording is left for training", "--held-out", "ann")
        fail("not a whole number from 10000", "--rate", "8000")
        write_wave(self.sounds / "noise.wav", tone(500))
        fail("noise.wav is not named CLASS_SPEAKER_NUMBER.wav")
        (self.sounds / "noise.wav").unlink()
        self.fail("cannot read the folder", "recordings", self.folder / "nowhere", self.folder / "out")
        self.make("once")
        result = self.convert("recordings", self.sounds, self.folder / "once")
        self.assertEqual(result.returncode, 2)
        self.assertIn("exists already\n  what to do: ", result.stderr)


if __name__ == "__main__":
    if importlib.util.find_spec("scipy") is None:
        program.skip("scipy for Python is not installed (python3-scipy)")
    program.main()
