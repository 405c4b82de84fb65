"""launch/docker_run.sh with a stub in place of docker: its command line, the receiver of its signals, its exit code,
and its message when something is missing. tests/container/run tests the images themselves.
"""
import shutil
import signal
import subprocess
import time

import program

SCRIPT = program.SOURCE / "launch/docker_run.sh"
TOOLS = ("bash", "basename", "cat", "dirname", "grep", "mkdir", "mv", "readlink", "realpath", "sleep")

# Knows the images named in $IMAGES. Writes the words of `run` to a file, one per line, and then acts as the container:
# it ends with $CODE at once or, if that is "signal", with 85 after one of the signals that stop a run.
ENGINE = r"""#!/usr/bin/env bash
case $1 in
    image) [[ " $IMAGES " == *" $3 "* ]] ;;
    info)
        if [ -n "${DOWN:-}" ]; then echo "cannot connect to the daemon" >&2; exit 1; fi
        echo "[name=seccomp ${ROOTLESS:-}]"
        ;;
    run)
        if [ "$CODE" = signal ]; then
            for name in INT TERM USR1; do trap "echo $name >$FOLDER/signal; exit 85" $name; done
        fi
        printf '%s\n' "$@" >$FOLDER/words.partial
        mv $FOLDER/words.partial $FOLDER/words
        [ "$CODE" = signal ] || exit $CODE
        while true; do sleep 0.1; done
        ;;
esac
"""


class DockerRunTest(program.ProgramTest):
    def setUp(self):
        super().setUp()
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        # Only these tools are found, on any machine.
        for name in TOOLS:
            (self.bin / name).symlink_to(shutil.which(name))
        self.tool("id", "#!/usr/bin/env bash\n[ $1 = -u ] && echo ${CALLER:-1234} || echo ${CALLER:-5678}\n")
        self.here = self.folder / "a place"
        self.here.mkdir()
        (self.here / "small.toml").write_text(program.SMALL_CONFIG)
        self.environment = {"PATH": str(self.bin), "FOLDER": str(self.folder), "CODE": "0",
                            "IMAGES": "spikefloss:cpu spikefloss:cuda"}

    def tool(self, name, text):
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def start(self, *arguments, **environment):
        return subprocess.Popen([str(SCRIPT), *map(str, arguments)], cwd=self.here, env={**self.environment, **environment},
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                start_new_session=True)

    def call(self, *arguments, **environment):
        return program.wait(self.start(*arguments, **environment), time.monotonic(), 60)

    def words(self, *arguments, **environment):
        """The arguments of the engine."""
        result = self.call(*arguments, **environment)
        self.assertEqual(result.code, 0, str(result))
        return (self.folder / "words").read_text().splitlines()

    def following(self, words, option):
        return [words[i + 1] for i, word in enumerate(words) if word == option]

    def mount(self, path, more=""):
        return f"type=bind,source={path},target={path}{more}"

    def test_command_line(self):
        self.tool("docker", ENGINE)
        words = self.words("small.toml", "--set", "train.steps=7", "--resume", RANKS="3", ENGINE_ARGS="--network host")
        self.assertEqual(words[0], "run")
        image = words.index("spikefloss:cpu")
        self.assertEqual(words[image + 1:], ["train", "small.toml", "--set", "train.steps=7", "--resume"])
        options = words[:image]
        self.assertEqual(self.following(options, "--workdir"), [str(self.here)])
        self.assertEqual(self.following(options, "--user"), ["1234:5678"])
        self.assertEqual(self.following(options, "--mount"),
                         [self.mount(self.here / "runs"), self.mount(self.here / "small.toml", ",readonly")])
        self.assertIn("RANKS=3", self.following(options, "--env"))
        self.assertNotIn("OMPI_ALLOW_RUN_AS_ROOT=1", options)
        self.assertEqual(self.following(options, "--shm-size"), ["1g"])
        self.assertEqual(self.following(options, "--network"), ["host"])
        self.assertEqual(self.following(options, "--stop-timeout"), ["120"])
        self.assertIn("--sig-proxy=true", options)
        self.assertIn("--rm", options)
        self.assertNotIn("--gpus", options)
        self.assertTrue((self.here / "runs").is_dir())

    def test_folders(self):
        self.tool("docker", ENGINE)
        data = self.folder / "data"
        data.mkdir()
        for option in (["--run-dir", "../elsewhere/one"], ["--run-dir=../elsewhere/one"]):
            words = self.words("small.toml", *option, RUNS=str(self.folder / "runs"), DATA="../data")
            self.assertEqual(self.following(words, "--mount"), [
                self.mount(self.folder / "runs"), self.mount(self.folder / "elsewhere/one"),
                self.mount(self.here / "small.toml", ",readonly"), self.mount(data, ",readonly")])
        self.assertTrue((self.folder / "elsewhere/one").is_dir())
        # A file in the folder of the runs is mounted already. It must not become read-only.
        (self.here / "runs/one").mkdir(parents=True)
        shutil.copy(self.here / "small.toml", self.here / "runs/one/config.toml")
        words = self.words("runs/one/config.toml", "--resume", "--run-dir", "runs/one")
        self.assertEqual(self.following(words, "--mount"), [self.mount(self.here / "runs")])

    def test_gpus(self):
        self.tool("docker", ENGINE)
        self.tool("nvidia-smi", "#!/usr/bin/env bash\necho 'GPU 0: a card (UUID: GPU-1)'\n")
        words = self.words("small.toml")
        self.assertEqual(self.following(words, "--gpus"), ['"all"'])
        self.assertEqual(self.following(words, "--ulimit"), ["memlock=-1"])
        self.assertIn("spikefloss:cuda", words)
        words = self.words("small.toml", GPUS="device=0,2", IMAGE="spikefloss:cpu")
        self.assertEqual(self.following(words, "--gpus"), ['"device=0,2"'])
        self.assertIn("spikefloss:cpu", words)
        words = self.words("small.toml", GPUS="none")
        self.assertNotIn("--gpus", words)
        self.assertIn("spikefloss:cpu", words)
        # A driver without GPUs.
        self.tool("nvidia-smi", "#!/usr/bin/env bash\necho 'No devices found'\n")
        self.assertNotIn("--gpus", self.words("small.toml"))

    def test_users(self):
        self.tool("docker", ENGINE)
        # Root, and a user who is root only inside.
        for environment in ({"CALLER": "0"}, {"ROOTLESS": "name=rootless"}):
            words = self.words("small.toml", **environment)
            self.assertEqual(self.following(words, "--user"), ["0:0"])
            self.assertEqual(self.following(words, "--env")[1:],
                             ["OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"])
        (self.bin / "docker").rename(self.bin / "podman")
        words = self.words("small.toml", GPUS="device=0,2")
        self.assertEqual(self.following(words, "--user"), ["1234:5678"])
        self.assertEqual(self.following(words, "--userns"), ["keep-id"])
        self.assertEqual([w for w in words if w.startswith("--device")],
                         ["--device=nvidia.com/gpu=0", "--device=nvidia.com/gpu=2"])
        self.assertNotIn("--gpus", words)
        self.assertNotIn("--userns", self.words("small.toml", CALLER="0"))

    def test_exit_codes_are_handed_back(self):
        self.tool("docker", ENGINE)
        for code in (0, 3, 75, 85, 137):
            self.assertEqual(self.call("small.toml", CODE=str(code)).code, code)

    def test_signals_reach_the_engine(self):
        self.tool("docker", ENGINE)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            with self.subTest(signal=number.name):
                process = self.start("small.toml", CODE="signal")
                self.addCleanup(program.end, process)
                limit = time.monotonic() + 60
                while not (self.folder / "words").exists() and process.poll() is None and time.monotonic() < limit:
                    time.sleep(0.02)
                process.send_signal(number)
                result = program.wait(process, time.monotonic(), 60)
                self.assertEqual(result.code, program.STOPPED, str(result))
                self.assertEqual((self.folder / "signal").read_text(), number.name[3:] + "\n")
                (self.folder / "words").unlink()

    def refuse(self, code, fragments, *arguments, **environment):
        result = self.call(*arguments, **environment)
        self.assertEqual(result.code, code, str(result))
        for fragment in fragments:
            self.assertIn(fragment, result.err, str(result))
        self.assertFalse((self.folder / "words").exists(), "the engine was called")

    def test_errors(self):
        self.refuse(1, ["neither docker nor podman", "launch/train"], "small.toml")
        self.refuse(1, ["ENGINE=podman"], "small.toml", ENGINE="podman")
        self.tool("docker", ENGINE)
        self.refuse(2, ["usage"])
        self.refuse(2, ["no config file missing.toml"], "missing.toml")
        self.refuse(2, ["RANKS=two"], "small.toml", RANKS="two")
        self.refuse(2, ["DATA=missing"], "small.toml", DATA="missing")
        self.refuse(2, ["comma"], "small.toml", RUNS="a,b")
        self.refuse(1, ["no image spikefloss:cpu", "docker build -f docker/cpu.Dockerfile -t spikefloss:cpu",
                        f"cd {program.SOURCE}"], "small.toml", IMAGES="")
        self.refuse(1, ["docker build -f docker/Dockerfile -t spikefloss:cuda"], "small.toml", IMAGES="", GPUS="all")
        self.refuse(1, ["no image mine:1", "docker pull mine:1"], "small.toml", IMAGE="mine:1")
        self.refuse(1, ["does not answer", "cannot connect to the daemon"], "small.toml", IMAGES="", DOWN="1")


if __name__ == "__main__":
    program.main()
