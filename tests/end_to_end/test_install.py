"""cmake --install: program, man page, bash completion, docs; and the version that every file of the program carries."""
import json
import re
import shutil
import subprocess
from pathlib import Path

import program

BUILD = Path(program.PROGRAM).parent
VERSION = re.search(r"project\(spikefloss VERSION (\S+)", (program.SOURCE / "CMakeLists.txt").read_text())[1]


class InstallTest(program.ProgramTest):
    def complete(self, script, *words):
        """The words that bash offers for the last word, from the completion of the command at the beginning."""
        ask = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
               'call=$(complete -p spikefloss) || exit 9; [[ $call =~ -F\\ ([^ ]+) ]] || exit 8; '
               '"${BASH_REMATCH[1]}" spikefloss; printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "--norc", "-c", ask, "bash", script, *words], capture_output=True, text=True,
                              cwd=self.folder, check=True)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_installed_files(self):
        prefix = self.folder / "prefix"
        done = subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for name in ("bin/spikefloss", "share/doc/spikefloss/README.md", "share/doc/spikefloss/docs/flossing.md",
                     "share/spikefloss/configs/tiny.toml", "share/spikefloss/launch/mpirun/rank.sh"):
            self.assertTrue((prefix / name).is_file(), name)
        script = prefix / "share/bash-completion/completions/spikefloss"
        shown = subprocess.run([prefix / "bin/spikefloss", "--help"], capture_output=True, text=True, check=True).stdout
        commands = re.findall(r"^  (\w+)  ", shown[shown.index("Subcommands:"):shown.index("Exit codes")], re.MULTILINE)
        self.assertLessEqual({"train", "gradients"}, set(commands))
        self.assertEqual([word for word in self.complete(script, "spikefloss", "") if word[0] != "-"], commands)
        (self.folder / "mine.toml").write_text(
            '[[population]]\nname = "exc"\n[[projection]]\nsource = "exc"\ntarget = "exc"\n[train]\n')
        for words, offered in ((("tr",), ["train"]),
                               (("train", "--ch"), ["--check"]),
                               (("gradients", "--pen"), ["--penalty"]),
                               (("gradients", "--penalty", ""), ["task", "floss"]),
                               (("train", "--backend", "=", "cu"), ["cuda"]),
                               (("train", "--threads", ""), []),
                               (("train", "--set", "network.neu"), ["network.neurons="]),
                               (("train", "mine.toml", "--set", "population.exc.neu"), ["population.exc.neurons="]),
                               (("train", "mine.toml", "--set", "projection.exc_exc.de"),
                                ["projection.exc_exc.delay=", "projection.exc_exc.density="]),
                               (("train", "mine"), ["mine.toml"]),
                               (("spectrum", "--network", "mi"), ["mine.toml"])):
            self.assertEqual(self.complete(script, "spikefloss", *words), offered, words)

        page = prefix / "share/man/man1/spikefloss.1"
        if not shutil.which("help2man"):  # then the installation reports it and continues
            self.assertIn("help2man was not found", done.stdout)
            self.assertFalse(page.exists())
            return
        text = page.read_text()
        self.assertIn(f"spikefloss {VERSION}", text.splitlines()[1])
        for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"):
            self.assertRegex(text, rf'(?mi)^\.S[HS] "?{section}')
        for word in [*commands, r"\-\-qr\-interval", "Exit codes", "spikefloss \\- trains"]:
            self.assertIn(word, text)


class VersionTest(program.ProgramTest):
    def test_every_file_carries_the_version(self):
        run, network = self.folder / "run", program.write_network(self.folder / "net.h5")
        self.assertIn(f"{VERSION} (commit", self.succeed("info").out)
        self.succeed("train", self.config(), "--run-dir", run, "--set", "train.steps=2", "--set", "checkpoint.every=2")
        self.assertEqual(json.loads((run / "session.json").read_text())["version"], VERSION)
        self.assertIn(f"{VERSION} (commit", (run / "build.txt").read_text())
        self.assertEqual(program.read_file(program.checkpoints(run)[-1])["@spikefloss_version"], VERSION)
        for command in (("spectrum",), ("gradients", "--penalty", "task")):
            output = self.folder / f"{command[0]}.h5"
            self.succeed(*command, "--network", network, "--input", network, "--exponents", 2, "--output", output)
            self.assertEqual(program.read_file(output)["@spikefloss_version"], VERSION)


if not (BUILD / "cmake_install.cmake").exists():
    program.skip("the program is not in its build folder, so it cannot be installed from there")
if __name__ == "__main__":
    program.main()
