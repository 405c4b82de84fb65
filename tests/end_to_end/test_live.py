"""The server of a run: /metrics in the form of Prometheus, with the values of the records; access rights; and no
visitor delays or changes the training.
"""
import http.client
import json
import os
import re
import signal
import socket
import threading
import time

import program

ENDLESS = 1000000000
TOKEN = "a-token-of-a-test"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def get(port, path, address="127.0.0.1", **headers):
    """Status and text of an answer."""
    connection = http.client.HTTPConnection(address, port, timeout=20)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def parse(text):
    """{name{labels}: value} of Prometheus' text format, every line of which must be in order."""
    values, kinds = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds, f"{name} is there twice"
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            match = re.fullmatch(r'([a-z_]+)(\{(?:[a-z]+="[^"\\\n]*",?)*\})? (\S+)', line)
            assert match, f"not a line of the format: {line}"
            assert kinds.get(match[1]) == "gauge", line
            values[match[1] + (match[2] or "")] = float(match[3])
    return values


class ServedTest(program.ProgramTest):
    def start(self, *arguments, ranks=None, **options):
        """A run that continues until it is stopped, as soon as its server answers. It has few reports, because its
        output has no reader and a full pipe would stop it."""
        self.port, self.directory = free_port(), self.folder / "run"
        process = program.start(["train", self.config(), "--run-dir", self.directory, "--threads", 1,
                                 "--set", f"train.steps={ENDLESS}", "--set", "train.report_every=5000",
                                 "--set", "diagnostics.every=10000", "--set", "checkpoint.every=0",
                                 "--set", f"serve.port={self.port}", *arguments], ranks=ranks, **options)
        self.addCleanup(program.end, process)
        limit = time.monotonic() + 60
        while time.monotonic() < limit and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return process
            except OSError:
                time.sleep(0.02)
        self.fail(f"nothing was served: {process.communicate() if process.poll() is not None else 'no answer'}")

    def wait_for(self, ready):
        limit = time.monotonic() + 60
        while not (found := ready()):
            self.assertLess(time.monotonic(), limit)
            time.sleep(0.05)
        return found

    def stop(self, process):
        process.send_signal(signal.SIGUSR1)
        result = program.wait(process, time.monotonic(), 60)
        self.assertEqual(result.code, program.STOPPED, str(result))
        return result


class MetricsTest(ServedTest):
    def check(self, values, step_of_record):
        """The gauges are those of the training record of that step."""
        records = program.read_lines(self.directory / "metrics.jsonl")
        record = next(m for m in records if m["step"] == step_of_record and m["kind"] == "training")
        for field in ("loss", "accuracy", "running_accuracy", "gradient_norm", "rate", "sequences_per_second"):
            label = '{kind="training"}' if field in ("gradient_norm", "rate", "sequences_per_second") else ""
            # prometheus-cpp prints 16 digits.
            self.assertLess(program.difference(values[f"spikefloss_{field}{label}"], record[field]), 1e-15, field)

    def test_values_are_those_of_the_records(self):
        for ranks in (None, 2):
            with self.subTest(ranks=ranks):
                process = self.start("--set", 'flossing.schedule=["every"]', "--set", "flossing.every=2000",
                                     "--set", "flossing.exponents=3", "--set", "flossing.warmup=2", ranks=ranks)
                text = self.wait_for(lambda: (t := get(self.port, "/metrics"))[0] == 200 and "record_step" in t[1] and t[1])
                values = parse(text)
                self.check(values, values["spikefloss_record_step"])
                self.assertEqual(values["spikefloss_ranks"], ranks or 1)
                self.assertEqual(values["spikefloss_training_steps_wanted"], ENDLESS)
                self.assertGreaterEqual(values["spikefloss_training_steps"], values["spikefloss_record_step"])
                self.assertGreater(values["spikefloss_seconds_left"], 0)
                diagnostics = program.read_lines(self.directory / "diagnostics.jsonl")
                first = [values[f'spikefloss_exponent{{index="{j + 1}",of="diagnostics"}}'] for j in range(3)]
                self.assertLess(min(program.difference(first, d["exponents"]) for d in diagnostics), 1e-15)
                # Between two reports the step count increases.
                self.wait_for(lambda: parse(get(self.port, "/metrics")[1])["spikefloss_training_steps"]
                              > values["spikefloss_training_steps"])
                result = self.stop(process)
                self.assertIn(f"live at http://127.0.0.1:{self.port}/", result.out)
                self.directory.rename(self.folder / f"done_{ranks}")

    def test_data_goes_on_where_the_visitor_is(self):
        process = self.start()
        self.wait_for(lambda: len(json.loads(get(self.port, "/data")[1])["metrics"]["lines"]) > 2)
        first = json.loads(get(self.port, "/data")[1])
        known = len(first["metrics"]["lines"])
        more = self.wait_for(lambda: (d := json.loads(get(
            self.port, f"/data?generation={first['generation']}&metrics={known}&diagnostics=0")[1]))["metrics"]["lines"] and d)
        self.assertEqual(more["metrics"]["from"], known)
        lines = first["metrics"]["lines"] + more["metrics"]["lines"]
        self.stop(process)
        records = program.read_lines(self.directory / "metrics.jsonl")[:len(lines)]
        self.assertEqual([(m["step"], m["loss"]) for m in lines], [(m["step"], m["loss"]) for m in records])
        # A request with the lines of another run gets all lines.
        self.assertEqual(first["metrics"]["from"], 0)


class AccessTest(ServedTest):
    def test_port_in_use_is_an_error_before_anything_else(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            for ranks in (None, 2):
                self.fail_with(program.USAGE, [f"serve.port = {taken.getsockname()[1]}", "in use", "another port"],
                               "train", self.config(), "--run-dir", self.folder / "run",
                               "--set", f"serve.port={taken.getsockname()[1]}", ranks=ranks)
        self.assertFalse((self.folder / "run").exists())
        # Two runs: the second is refused.
        process = self.start()
        self.fail_with(program.USAGE, ["in use"], "train", self.config(), "--run-dir", self.folder / "second",
                       "--set", f"serve.port={self.port}")
        self.stop(process)
        self.fail_with(program.USAGE, ["203.0.113.1", "Cannot assign"], "train", self.config(), "--run-dir", self.folder / "third",
                       "--set", f"serve.port={free_port()}", "--set", "serve.address=203.0.113.1", "--set", f"serve.token={TOKEN}")

    def test_runs_of_a_sweep_share_one_port(self):
        """A run whose port is in use takes the next free one and reports it. After another fault it has no page."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.config(f"{program.SMALL_CONFIG}[serve]\nport = {port}\n")
            sweep = self.folder / "sweep.toml"
            sweep.write_text('base = "small.toml"\nseeds = [1, 2]\n')
            out = self.succeed("sweep", sweep, "--run", 0, "--run-dir", self.folder / "sweep").out
            self.assertIn(f"warning: serve.port = {port} is in use; this run takes the next free port, ", out)
            self.assertRegex(out, r"live at http://127\.0\.0\.1:\d+/")
            self.assertNotIn(f"live at http://127.0.0.1:{port}/", out)
        self.config(f"{program.SMALL_CONFIG}[serve]\nport = {port}\naddress = \"203.0.113.1\"\ntoken = \"{TOKEN}\"\n")
        out = self.succeed("sweep", sweep, "--run", 1, "--run-dir", self.folder / "other").out
        self.assertIn("Cannot assign requested address; this run has no live page", out)

    def test_token(self):
        secret = self.folder / "token"
        secret.write_text(f"{TOKEN}\n")
        secret.chmod(0o644)
        process = self.start("--set", "serve.address=0.0.0.0", "--set", f"serve.token_file={secret}")
        for path in ("/", "/data", "/metrics"):
            self.assertEqual(get(self.port, path)[0], 401)
            self.assertNotIn("loss", get(self.port, path + "?token=a-token-of-a-tesT")[1])
            self.assertEqual(get(self.port, path + "?token=" + TOKEN)[0], 200)
            self.assertEqual(get(self.port, path, Authorization="Bearer " + TOKEN)[0], 200)
        self.assertEqual(get(self.port, "/config.toml?token=" + TOKEN)[0], 404)
        page = get(self.port, "/?token=" + TOKEN)[1]
        result = self.stop(process)
        self.assertIn(f"live at http://{socket.gethostname()}:{self.port}/", result.out)
        self.assertIn(f"warning: other users can read the token in {secret}", result.out)
        # Others can see an option, so there is a warning. From any source, the token is in no file and in no text.
        texts = [page, result.out, result.err]
        given = self.succeed("train", self.config(), "--run-dir", self.directory, "--resume", "--set", "train.steps=1",
                             "--set", f"serve.port={free_port()}", "--set", f"serve.token={TOKEN}",
                             "--set", "serve.token_file=").out
        self.assertIn("every user of this machine can see the token", given)
        printed = self.succeed("train", self.config(), "--set", f"serve.token={TOKEN}", "--print-config").out
        self.assertIn('token = ""', printed)
        for text in texts + [given, printed, *(path.read_bytes().decode("latin1") for path in self.directory.iterdir())]:
            self.assertNotIn(TOKEN, text)


class RudeVisitorsTest(ServedTest):
    def test_training_goes_on_and_ends(self):
        process = self.start(env=dict(os.environ, SPIKEFLOSS_TOKEN=TOKEN))
        # 500 that send nothing; some that stop in the middle of a request, send an endless body, or never read.
        visitors = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(500)]
        beginnings = [b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n",
                      f"GET /?token={TOKEN} HTTP/1.1\r\nHost: a\r\n\r\n".encode()]
        rude = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(12)]
        ended = threading.Event()

        def send(visitor, beginning):
            try:
                visitor.sendall(beginning)
                while not ended.wait(0.2):
                    visitor.sendall(b"a" * (1 if b"GET" in beginning else 100000))
            except OSError:
                pass

        threads = [threading.Thread(target=send, args=(visitor, beginnings[i % 3])) for i, visitor in enumerate(rude)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        self.assertEqual(get(self.port, "/metrics?token=" + TOKEN)[0], 200)
        self.assertLess(time.monotonic() - began, 4)  # at most 2 s of this are a pause of the server
        step = parse(get(self.port, "/metrics?token=" + TOKEN)[1])["spikefloss_training_steps"]
        self.wait_for(lambda: parse(get(self.port, "/metrics?token=" + TOKEN)[1])["spikefloss_training_steps"] > step)
        began = time.monotonic()
        self.stop(process)
        self.assertLess(time.monotonic() - began, 5)
        ended.set()
        for thread in threads:
            thread.join()
        for visitor in visitors + rude:
            visitor.close()

    def test_a_run_that_is_watched_is_the_same_run(self):
        config = self.config()
        steps = ["--set", "train.steps=20000", "--set", "train.report_every=500", "--set", "diagnostics.every=500",
                 "--set", "checkpoint.every=0", "--threads", 1]
        self.succeed("train", config, "--run-dir", self.folder / "plain", *steps)
        port = free_port()
        process = program.start(["train", config, "--run-dir", self.folder / "watched", *steps,
                                 "--set", f"serve.port={port}"])
        self.addCleanup(program.end, process)
        answers = 0
        while process.poll() is None:
            try:
                answers += get(port, "/")[0] == 200
            except OSError:
                pass
        self.assertEqual(program.wait(process, time.monotonic(), 10).code, program.SUCCESS)
        self.assertGreater(answers, 0)
        plain, watched = (program.checkpoints(self.folder / name)[-1] for name in ("plain", "watched"))
        a, b = program.trained_state(plain), program.trained_state(watched)
        self.assertEqual(a.keys(), b.keys())
        for name in a:
            self.assertEqual(a[name].tobytes() if hasattr(a[name], "tobytes") else a[name],
                             b[name].tobytes() if hasattr(b[name], "tobytes") else b[name], name)


if __name__ == "__main__":
    program.main()
