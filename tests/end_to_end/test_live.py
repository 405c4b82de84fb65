"""The server of a run: /metrics in the form of Prometheus, with the values of the records; access rights; and no
visitor delays or changes the training.
"""
import http.client
import json
import re
import signal
import socket
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
        """A run that goes on until it is stopped, once it answers. Few reports: nobody reads what it prints, and a full
        pipe would stop it."""
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
                # Between two reports the steps go on.
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
        # Who speaks of another run's lines gets all.
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

    def test_token(self):
        process = self.start("--set", "serve.address=0.0.0.0", "--set", f"serve.token={TOKEN}")
        for path in ("/", "/data", "/metrics"):
            self.assertEqual(get(self.port, path)[0], 401)
            self.assertEqual(get(self.port, path + "?token=a-token-of-a-tesT")[0], 401)
            self.assertEqual(get(self.port, path, Authorization="Bearer wrong")[0], 401)
            self.assertNotIn("loss", get(self.port, path)[1])
            self.assertEqual(get(self.port, path + "?token=" + TOKEN)[0], 200)
            self.assertEqual(get(self.port, path, Authorization="Bearer " + TOKEN)[0], 200)
        self.assertEqual(get(self.port, "/../../etc/passwd?token=" + TOKEN)[0], 404)
        self.assertEqual(get(self.port, "/config.toml?token=" + TOKEN)[0], 404)
        page = get(self.port, "/?token=" + TOKEN)[1]
        result = self.stop(process)
        # The secret is in no file and in no text.
        for text in [page, result.out, result.err, *(path.read_bytes().decode("latin1") for path in self.directory.iterdir())]:
            self.assertNotIn(TOKEN, text)

    def test_pages_of_other_sites_may_not_look(self):
        process = self.start()
        self.assertEqual(get(self.port, "/data", Host=f"localhost:{self.port}")[0], 200)
        self.assertEqual(get(self.port, "/data", Host="[::1]:80")[0], 200)
        for host in ("example.org", "127.example.org", f"example.org:{self.port}"):
            self.assertEqual(get(self.port, "/data", Host=host)[0], 403, host)
        self.stop(process)


class RudeVisitorsTest(ServedTest):
    def test_training_goes_on_and_ends(self):
        process = self.start()
        # One that says nothing, one that stops in the middle of its request, one that never reads the answer.
        visitors = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(6)]
        for i, visitor in enumerate(visitors):
            if i % 3:
                visitor.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + (b"\r\n" if i % 3 == 2 else b""))
        size = (self.directory / "metrics.jsonl").stat().st_size
        self.wait_for(lambda: (self.directory / "metrics.jsonl").stat().st_size > size + 1500)
        self.wait_for(lambda: get(self.port, "/metrics")[0] == 200)
        result = self.stop(process)
        self.assertLess(result.seconds, 15)
        for visitor in visitors:
            visitor.close()

    def test_a_run_that_is_watched_is_the_same_run(self):
        config = self.config()
        steps = ["--set", "train.steps=20000", "--set", "train.report_every=500", "--set", "diagnostics.every=500",
                 "--set", "checkpoint.every=0"]
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
