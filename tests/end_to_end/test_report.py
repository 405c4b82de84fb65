"""`spikefloss report` without a browser: the inputs it refuses, and that the file needs no other file."""
import re

import program


class ReportTest(program.ProgramTest):
    def test_what_cannot_be_reported(self):
        empty = self.folder / "empty"
        self.fail_with(program.BAD_FILE, ["there is no run directory", "empty"], "report", empty)
        empty.mkdir()
        self.fail_with(program.BAD_FILE, ["holds no records"], "report", empty)
        run = self.folder / "run"
        self.succeed("train", self.config(), "--run-dir", run)
        self.fail_with(program.STORAGE, ["cannot write", "nowhere"], "report", run, "-o", self.folder / "nowhere/x.html")

    def test_one_file_that_needs_no_other(self):
        run = self.folder / "run"
        self.succeed("train", self.config(), "--run-dir", run, "--set", "train.steps=5")
        result = self.succeed("report", run)
        self.assertEqual(result.out.strip(), str(run / "report.html"))
        page = (run / "report.html").read_text()
        # Scripts and styles are all in the file: a browser fetches nothing.
        self.assertEqual(re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?!data:)[^"]*"', page), [])
        self.assertNotIn("sourceMappingURL", page)
        self.assertIn("Dygraph", page)
        # The name is that of the directory, for every form of its path.
        for argument, place in ((f"{run}/", None), (".", run), (f"{run}//.", None)):
            self.succeed("report", argument, cwd=place)
            self.assertIn('"name":"run"', (run / "report.html").read_text(), argument)
        # The same from any number of ranks, and to any output path.
        self.succeed("report", run, "-o", self.folder / "copy.html", ranks=2)
        self.assertEqual((self.folder / "copy.html").read_text(), page)


    def test_broken_records_are_left_out_and_told(self):
        run = self.folder / "run"
        self.succeed("train", self.config(), "--run-dir", run, "--set", "train.steps=5")
        lines = (run / "metrics.jsonl").read_text().splitlines()
        (run / "metrics.jsonl").write_text("\n".join([lines[0], '{"step":5,"kind":null}', "x", *lines[1:]]) + "\n")
        result = self.succeed("report", run)
        self.assertEqual(result.err, "spikefloss: warning: damaged and left out: 2 lines of metrics.jsonl\n")
        (run / "metrics.jsonl").write_text('{"step":5,"kind":null}\n')
        (run / "diagnostics.jsonl").unlink()
        self.fail_with(program.BAD_FILE, ["holds no records", "1 line of metrics.jsonl"], "report", run)


if __name__ == "__main__":
    program.main()
