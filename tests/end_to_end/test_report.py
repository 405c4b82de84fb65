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
        # Scripts and styles are all inside: nothing that a browser would fetch.
        self.assertEqual(re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?!data:)[^"]*"', page), [])
        self.assertNotIn("sourceMappingURL", page)
        self.assertIn("Dygraph", page)
        # The same from any number of ranks, and to any place.
        self.succeed("report", run, "-o", self.folder / "copy.html", ranks=2)
        self.assertEqual((self.folder / "copy.html").read_text(), page)


if __name__ == "__main__":
    program.main()
