"""Two hosts, which are network namespaces of this machine, each with a name, and a cable (a veth pair) between them.
launch/mpirun.sh trains on both to the same state as on one host. When one host is cut off, the run ends within the
limit of the watchdog, leaves no process on either side, and continues on one host.

`nsenter` in place of ssh starts the ranks. The addresses are private ones of these namespaces alone.
"""
import json
import os
import shutil
import signal
import subprocess

import launched
import program

ADDRESSES = {"north": "10.77.0.1", "south": "10.77.0.2"}


class Host:
    """A process that holds the namespaces of a host."""

    def __init__(self, name):
        self.name, self.address = name, ADDRESSES[name]
        # The shell reports that its namespaces exist.
        self.holder = subprocess.Popen(["unshare", "--net", "--uts", "sh", "-c",
                                        f"hostname {name} && echo ready && exec sleep infinity"],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.pid = self.holder.pid
        self.ready = self.holder.stdout.readline() == "ready\n"

    def enter(self):
        """The beginning of a command on this host."""
        return ["nsenter", "--target", str(self.pid), "--net", "--uts"]

    def run(self, *command):
        subprocess.run([*self.enter(), *command], check=True)

    def processes(self):
        """The processes on this host, as (id, words of the command line)."""
        def network(pid):
            try:
                return os.readlink(f"/proc/{pid}/ns/net")
            except OSError:
                return None
        mine = network(self.pid)
        return [(pid, words) for pid, words in launched.processes() if pid != self.pid and network(pid) == mine]

    def bytes_sent(self):
        text = subprocess.run([*self.enter(), "ip", "-json", "-s", "link", "show", "cable"], check=True,
                              capture_output=True, text=True).stdout
        return json.loads(text)[0]["stats64"]["tx"]["bytes"]

    def end(self):
        for pid, _ in self.processes():
            launched.kill(pid)
        self.holder.kill()
        self.holder.communicate()


class HostsTest(launched.LaunchedTest):
    def setUp(self):
        super().setUp()
        self.north, self.south = self.hosts = [self.host("north"), self.host("south")]
        self.north.run("ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns",
                       str(self.south.pid))
        for host in self.hosts:
            host.run("ip", "address", "add", host.address + "/30", "dev", "cable")
            for device in ("lo", "cable"):
                host.run("ip", "link", "set", device, "up")
        # ssh [options] HOST COMMAND...
        agent = self.folder / "agent"
        cases = [f"{host.address}) exec {' '.join(host.enter())} sh -c \"$*\" ;;\n" for host in self.hosts]
        agent.write_text("#!/bin/sh\nwhile [ \"${1#-}\" != \"$1\" ]; do shift; done\nhost=$1\nshift\ncase $host in\n" +
                         "".join(cases) + "esac\necho \"no host $host\" >&2\nexit 255\n")
        agent.chmod(0o755)
        self.environment = {**os.environ, "OMPI_MCA_plm_rsh_agent": str(agent)}
        self.hostfile = self.folder / "hosts"
        self.hostfile.write_text("".join(f"{host.address} slots=1\n" for host in self.hosts))

    def host(self, name):
        host = Host(name)
        self.addCleanup(host.end)
        self.assertTrue(host.ready)
        return host

    def on_both(self, start, *arguments, **options):
        """start(...) of a run that is launched on the northern host and has a rank on each."""
        return start(*arguments, prefix=self.north.enter(), env=self.environment, **options)

    def on_one(self):
        return {"prefix": self.north.enter(), "env": self.environment}

    def assert_hosts_are_empty(self):
        for host in self.hosts:
            launched.wait_until(lambda h=host: not h.processes(), f"nothing left on {host.name}: {host.processes()}")

    def test_the_same_as_on_one_host(self):
        directory = self.folder / "both"
        hosts = ["--hostfile", self.hostfile]
        result = self.on_both(self.launch, *self.arguments(directory, *hosts, steps=40))
        self.assertIn("2 ranks on 2 hosts", result.err)
        session = json.loads((directory / "session.json").read_text())
        self.assertEqual([rank["host"] for rank in session["ranks"]], ["north", "south"])
        self.assertNotIn("warning", session)
        self.assert_undisturbed(directory, 40)
        for host in self.hosts:
            self.assertGreater(host.bytes_sent(), 100000, "the gradients went through the cable")
        self.assert_hosts_are_empty()

        # Without RANKS: the slots, or the cores, of all hosts.
        chosen = self.on_both(self.launch, *self.arguments(self.folder / "slots", *hosts, steps=1, ranks=None))
        self.assertIn("2 ranks on 2 hosts", chosen.err)
        self.assertIn("slots of", chosen.err)
        self.hostfile.write_text("".join(f"{host.address}\n" for host in self.hosts))
        chosen = self.on_both(self.launch, *self.arguments(self.folder / "cores", *hosts, steps=1, ranks=None))
        self.assertIn("one for each physical core", chosen.err)
        even = self.folder / "even"
        self.on_both(self.launch, *self.arguments(even, *hosts, steps=1, ranks=4))
        session = json.loads((even / "session.json").read_text())
        self.assertEqual([rank["host"] for rank in session["ranks"]], ["north"] * 2 + ["south"] * 2)
        self.assert_hosts_are_empty()

    def test_stop(self):
        directory = self.folder / "stopped"
        process = self.on_both(self.begin, directory, "--hostfile", self.hostfile)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(process).code, program.STOPPED)
        self.assert_hosts_are_empty()
        self.assert_goes_on(directory, **self.on_one())

    def check_cut(self, cut):
        """In both directions the lost rank is the one on the southern host, as seen from the host of the launcher."""
        directory = self.folder / f"cut_{cut.name}"
        process = self.on_both(self.begin, directory, "--hostfile", self.hostfile, "--watchdog", 6)
        cut.run("ip", "link", "set", "cable", "down")
        # The limit of the watchdog, its poll of all ranks, and ten seconds for mpirun; with a wide margin.
        result = self.finish(process, limit=90)
        self.assertEqual(result.code, program.LOST, str(result))
        if "mpirun has lost a host, or" not in result.err:  # a host that is cut off may report this first
            self.assertRegex(result.err, r"\[rank 0\]: error: .*rank 1 \(south\)")
            self.assertRegex(result.err, r"MPI_\w+, training step \d+|writing a checkpoint, training step", str(result))
        elif cut is self.south:
            self.fail(f"the watchdog comes before mpirun: {result}")
        self.assertIn("--resume", result.err)
        self.assertLess(result.seconds, 60)
        print(f"{cut.name} cut off: over after {result.seconds:.0f} s, {result.errors()}")
        # The daemon on that host ends, too.
        self.assert_hosts_are_empty()
        self.assert_nothing_left(directory)
        self.assert_goes_on(directory, **self.on_one())

    def test_other_host_cut_off(self):
        self.check_cut(self.south)

    def test_this_host_cut_off(self):
        self.check_cut(self.north)

    def test_killed_on_the_other_host(self):
        directory = self.folder / "killed"
        process = self.on_both(self.begin, directory, "--hostfile", self.hostfile)
        launched.kill(launched.ranks_of(directory)[1])
        result = self.finish(process, limit=60)
        self.assertEqual(result.code, program.LOST, str(result))
        self.assertIn("rank 1 (south) was killed", result.err)
        self.assert_hosts_are_empty()

    def test_the_other_host_crashes(self):
        directory = self.folder / "crashed"
        process = self.on_both(self.begin, directory, "--hostfile", self.hostfile)
        for pid, _ in self.south.processes():
            launched.kill(pid)
        result = self.finish(process, limit=60)
        self.assertEqual(result.code, program.LOST, str(result))
        self.assertRegex(result.err, r"mpirun has lost a host|rank 1 \(south\)|MPI_\w+ failed")
        self.assert_hosts_are_empty()

    def test_a_directory_that_is_not_shared(self):
        """This is reported at the start, not at the first checkpoint."""
        place = self.folder / "shared"
        place.mkdir()
        agent = self.folder / "agent"
        agent.write_text(agent.read_text().replace(
            'sh -c "$*"', f'unshare --mount sh -c "mount -t tmpfs tmpfs {place} && $*"'))
        result = self.on_both(self.launch, *self.arguments(place / "run", "--hostfile", self.hostfile),
                              code=program.USAGE)
        self.assertIn("rank 1 (south) does not see", result.err)
        self.assertIn("shared file system", result.err)
        self.assert_hosts_are_empty()

    def test_a_host_that_does_not_answer(self):
        self.hostfile.write_text(f"{self.north.address}\n10.77.0.9\n")
        result = self.on_both(self.launch, *self.arguments(self.folder / "none", "--hostfile", self.hostfile),
                              code=program.INTERNAL)
        self.assertIn("no host 10.77.0.9", result.err)
        self.assertIn("could not start a command on every host", result.err)
        self.assert_hosts_are_empty()


if __name__ == "__main__":
    for tool in ("ip", "nsenter"):
        if not shutil.which(tool):
            program.skip(f"there is no {tool} (packages iproute2, util-linux)")
    launched.in_namespaces("--mount")
    program.main()
