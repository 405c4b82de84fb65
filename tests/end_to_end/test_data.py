"""spikefloss data: the numbers that it prints and the page that it writes, compared with h5py; its errors."""
import gzip
import io
import re

import h5py
import numpy as np

import program

WORDS = program.DATA / "spoken_words" / "spoken_words.h5.gz"


def rows(text):
    """{"name": count} of the lines of classes and groups."""
    return {name: int(count) for name, count in re.findall(r"(?<=  )(\d\S*(?: \S+)?): (\d+)", text)}


class DataTest(program.ProgramTest):
    def events(self, name="events.h5", times=([0.001, 0.0305], [0.002], [0.01, 0.02, 0.0299]),
               units=([0, 3], [1], [3, 3, 0]), labels=(2, 0, 2), **more):
        path = self.folder / name
        with h5py.File(path, "w") as file:
            for dataset, lists, kind in (("times", times, np.float64), ("units", units, np.uint16)):
                data = file.create_dataset(f"spikes/{dataset}", (len(lists),), dtype=h5py.vlen_dtype(kind))
                for i, values in enumerate(lists):
                    data[i] = np.asarray(values, kind)
            file["labels"] = labels
            for dataset, values in more.items():
                file[dataset.replace("__", "/")] = values
        return path

    def test_events(self):
        file = self.events(extra__speaker=[10**15, 10**15, -2], extra__keys=np.array([b"no", b"oh", b"\xc3\xbcb"]))
        text = self.succeed("data", file).out
        self.assertIn("events.h5: 3 sequences of events, 4 channels, 3 classes\n", text)
        self.assertIn("length      3 to 31 ms, median 30\n", text)
        self.assertIn("events      1 to 3 a sequence, median 2\n", text)
        # 64 ms in all: 2, 1, 0 and 3 events of the channels
        self.assertIn("channels    0 to 46.88 events per second, median 31.25; silent: 1\n", text)
        self.assertIn("\nclasses\n            0 no: 1           1 oh: 0           2 üb: 2\n", text)
        self.assertIn("groups      2 of extra/speaker\n            -2: 1             1000000000000000: 2\n", text)
        self.assertEqual(re.findall("warning: .*", text), ["warning: no sequence has label 1"])
        text = self.succeed("data", file, "--dt", "0.5").out
        self.assertIn("length      2.5 to 31 ms, median 30\n", text)

    def test_arrays(self):
        x = np.zeros((5, 6, 2), np.int8)
        x[0, 1, 1] = 3
        x[4, 0, 0] = 1
        path = self.folder / "x.h5"
        with h5py.File(path, "w") as file:
            file["x"], file["target"], file["length"] = x, np.zeros((5, 6, 3)), [6, 6, 2, 6, 5]
        text = self.succeed("data", path, "--html", self.folder / "x.html").out
        self.assertIn("x.h5: 5 sequences of a dense x, 2 channels, a target of 3\n", text)
        self.assertIn("length      2 to 6 steps, median 6\n", text)
        self.assertIn("sum of x    0 to 3 a sequence, median 0\n", text)
        self.assertIn("channels    0.04 to 0.12 mean of x, median 0.12; silent: 0\n", text)
        page = (self.folder / "x.html").read_text()
        self.assertEqual(page.count("<figure"), 1 + 4)
        self.assertEqual(len(re.findall("<rect", page)), 1)  # of the first four sequences; the other is in the fifth

    def test_speech_and_page(self):
        page = self.folder / "words.html"
        text = self.succeed("data", WORDS, "--html", page).out
        with h5py.File(io.BytesIO(gzip.decompress(WORDS.read_bytes())), "r") as file:
            labels, times = file["labels"][:], [t.astype(float) for t in file["spikes/times"]]
            first = [int(np.flatnonzero(labels == c)[0]) for c in range(labels.max() + 1)]
            events = [len(times[i]) for i in first]
        self.assertIn(f": {len(labels)} sequences of events", text)
        counts = rows(text)
        for c, count in enumerate(np.bincount(labels)):
            self.assertEqual([n for name, n in counts.items() if name.split()[0] == str(c)][0], count, text)
        html = page.read_text()
        drawn = [part.count("M") for part in re.findall(r'<path d="(M[^"]*h3)"', html)]
        self.assertEqual(drawn, [-(-n // (n // 6001 + 1)) for n in events])
        for word in ("<script", "http://", "https://", "onload"):
            self.assertNotIn(word, html)
        # Its own page may be replaced, another file may not.
        self.succeed("data", WORDS, "--html", page)
        page.write_text("mine")
        self.fail_with(program.USAGE, ["exists already", "--overwrite"], "data", WORDS, "--html", page)
        self.succeed("data", WORDS, "--html", page, "--overwrite")
        self.assertEqual(page.read_text(), html)

    def test_names_are_escaped(self):
        path = self.events("a<b.h5", extra__keys=np.array([b"<script>", b"&amp", b'"'], dtype=object))
        self.succeed("data", path, "--html", self.folder / "p.html")
        html = (self.folder / "p.html").read_text()
        self.assertNotIn("<script", html)
        self.assertIn("&#60;script&#62;: 1 sequences", html)
        self.assertIn("a&#60;b.h5", html)

    def test_errors(self):
        good = self.events()
        self.fail_with(program.BAD_FILE, ["missing.h5"], "data", self.folder / "missing.h5")
        h5py.File(self.folder / "empty.h5", "w").close()
        self.fail_with(program.BAD_FILE, ["neither events"], "data", self.folder / "empty.h5")
        self.fail_with(program.BAD_FILE, ["/labels[1] is -1"], "data", self.events("c.h5", labels=(0, -1, 1)))
        late = self.events("late.h5", times=([700.0, 0.5], [2.0], [10.0, 20.0, 300.0]))
        self.fail_with(program.BAD_FILE, ["so they look like ms"], "data", late)
        self.assertIn("length      3 to 701 ms", self.succeed("data", late, "--time-unit", "ms").out)
        self.fail_with(program.USAGE, ["--dt 0"], "data", good, "--dt", "0")
        self.fail_with(program.USAGE, ["--html"], "data", good, "--html", good, "--overwrite")
        self.fail_with(program.STORAGE, ["nowhere"], "data", good, "--html", self.folder / "nowhere" / "p.html")
        whole = WORDS.read_bytes()
        (self.folder / "cut.h5.gz").write_bytes(whole[:len(whole) // 2])
        self.fail_with(program.BAD_FILE, ["cut.h5.gz"], "data", self.folder / "cut.h5.gz")

    def test_damaged_length(self):
        """The HDF5 library would fill 25 GB before it reads one number of this list."""
        path = self.events()
        with h5py.File(path) as file:
            place = file["spikes/times"].id.get_offset()
        content = bytearray(path.read_bytes())
        self.assertEqual(int.from_bytes(content[place:place + 4], "little"), 2)
        content[place:place + 4] = (3 << 30).to_bytes(4, "little")
        path.write_bytes(content)
        self.fail_with(program.BAD_FILE, ["events.h5: the file is damaged", "more than 8 GiB"], "data", path)


if __name__ == "__main__":
    program.main()
