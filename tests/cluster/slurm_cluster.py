"""A real Slurm for a test: munged, slurmctld and slurmd as child processes on loopback, without systemd, cgroups or a
database, and without touching the machine's own munge and Slurm.

    with SlurmCluster(slots=8, gpus=2) as cluster:
        job = cluster.submit("launch/slurm/train.sbatch", "configs/tiny.toml", options=["--ntasks=2"])
        cluster.wait_for(job, "COMPLETED", limit=60)

A node pretends to have `slots` cores and `gpus` GPUs, so that ordinary requests are accepted on any machine. More than one
node means a slurmd for each, in namespaces of its own: MPI then sees machines of different names that share no memory. Jobs of
partition `high` preempt those of `low` (the default), which are requeued after a grace time. State, keys, logs and sockets lie in
a folder of their own and ports are chosen at run time, so several clusters can run side by side. What was started is ended
by process id when the block is left, however it is left; what a killed test has left is ended by the next cluster.
"""
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "end_to_end"))
import program

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "PREEMPTED")

# cred_expire: a requeued job waits for this time before it may start again, 120 s by default.
# NoInAddrAny: listen on loopback only. Job ids of earlier clusters must not be reused: PMIx has files named by them.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd_%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
FirstJobId={first_job}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
InactiveLimit=0
KillWait={kill_wait}
MinJobAge=3600
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=DEFAULT CPUs={slots} Boards=1 SocketsPerBoard=1 CoresPerSocket={slots} ThreadsPerCore=1 RealMemory=2000 \
Gres=gpu:{gpus} State=UNKNOWN
{nodes}
PartitionName=low  Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=1 PreemptMode=REQUEUE \
GraceTime={grace}
PartitionName=high Nodes=ALL Default=NO MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=10 PreemptMode=OFF
{more}
"""

# With several nodes, each node has its own name, which it can resolve, and its own folder for PMIx.
NODE = """\
hostname {name} && mount --bind {folder}/hosts /etc/hosts && mount -t tmpfs -o mode=1777 tmpfs {folder}/pmix &&
exec slurmd -D -N {name}
"""


NAMESPACES = ["unshare", "--uts", "--mount"]
if os.geteuid() != 0:
    NAMESPACES += ["--user", "--map-current-user", "--keep-caps"]


def missing(nodes=1):
    """The missing parts of a cluster, as text; empty if it can be started."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    names = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if names:
        return f"{', '.join(names)} (launch/packages_for_tests)"
    if nodes > 1:
        done = subprocess.run([*NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
        return f"namespaces: {done.stderr.strip()}" if done.returncode else ""
    return ""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def processes_with(variable):
    """Ids of the running processes that were started with NAME=value in their environment, without this process."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue  # it has ended in the meantime, or belongs to another user
        if os.fsencode(variable) in variables and state != "Z":
            found.append(int(entry.name))
    return found


def kill_all(variable, limit=30):
    """Ends those processes with SIGKILL, and processes that they start in the meantime."""
    end = time.monotonic() + limit
    while found := processes_with(variable):
        assert time.monotonic() < end, f"processes {found} do not end"
        for process in found:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)


class SlurmCluster:
    """`more`: further lines of slurm.conf. `grace`: seconds that a preempted job has, `kill_wait`: seconds between
    SIGTERM and SIGKILL."""

    def __init__(self, nodes=1, slots=8, gpus=2, grace=20, kill_wait=15, more=""):
        self.slots, self.gpus, self.grace, self.kill_wait, self.more = slots, gpus, grace, kill_wait, more
        self.host = socket.gethostname().split(".")[0]
        self.nodes = [self.host] if nodes == 1 else [f"node{number}" for number in range(1, nodes + 1)]
        self.folder = None
        self.daemons = {}

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        lacking = missing(len(self.nodes))
        assert not lacking, lacking
        # Names of sockets in it can have at most 107 characters.
        beside = Path(program.PROGRAM).parent / "tests"
        base = beside if len(str(beside)) < 60 and os.access(beside, os.W_OK) else Path(tempfile.gettempdir())
        for left in base.glob("slurm_*_*"):
            if not Path("/proc", left.name.split("_")[1]).exists():
                kill_all(f"SLURM_CONF={left}/slurm.conf")
                shutil.rmtree(left, ignore_errors=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f"slurm_{os.getpid()}_", dir=base))
        self.folder.chmod(0o755)
        self.environment = {**os.environ, "SLURM_CONF": f"{self.folder}/slurm.conf",
                            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        for name in [name for name in self.environment if name.startswith(("SLURM_JOB", "SLURM_STEP", "SBATCH_"))]:
            del self.environment[name]
        if len(self.nodes) > 1:
            # The nodes share these cores and communicate by loopback. No rank must detect this.
            self.environment.update(OMPI_MCA_btl_tcp_if_include="lo", OMPI_MCA_oob_tcp_if_include="lo",
                                    OMPI_MCA_mpi_yield_when_idle="1")
        self.configure()
        self.start_daemon("munged", "munged", "--foreground", "--force", f"--socket={self.folder}/munge.sock",
                          f"--key-file={self.folder}/munge.key", f"--pid-file={self.folder}/munged.pid",
                          f"--log-file={self.folder}/munged.log", f"--seed-file={self.folder}/munge.seed",
                          "--num-threads=2")
        self.wait_until(lambda: (self.folder / "munge.sock").exists(), "munged listens")
        self.start_daemon("slurmctld", "slurmctld", "-D")
        for node in self.nodes:
            self.start_node(node)
        self.wait_until(self.all_idle, "all nodes are idle")

    def all_idle(self):
        out = self.command("sinfo", "-h", "-p", "low", "-o", "%D %T", check=False).stdout
        return out == f"{len(self.nodes)} idle\n"

    def start_node(self, name):
        if len(self.nodes) == 1:
            self.start_daemon(name, "slurmd", "-D")
        else:
            self.start_daemon(name, *NAMESPACES, "sh", "-c", NODE.format(name=name, folder=self.folder))

    def kill_node(self, name):
        """Power off: slurmd and all processes on this node of several end at once. start_node starts it again."""
        names = os.readlink(f"/proc/{self.daemons[name].pid}/ns/uts")
        daemon = self.daemons.pop(name)
        for process in processes_with(f"SLURM_CONF={self.folder}/slurm.conf"):
            try:
                if os.readlink(f"/proc/{process}/ns/uts") == names:
                    os.kill(process, signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                pass  # it has ended in the meantime
        daemon.wait()

    def configure(self):
        for name in ("state", "pmix", *(f"spool_{node}" for node in self.nodes)):
            (self.folder / name).mkdir()
        (self.folder / "pmix").chmod(0o1777)
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o400)
        controller_port, *ports = free_ports(1 + len(self.nodes))
        nodes = [f"NodeName={node} NodeAddr=127.0.0.1 NodeHostname={node} Port={port}"
                 for node, port in zip(self.nodes, ports)]
        self.user = self.command("id", "-un").stdout.strip()
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(
            folder=self.folder, host=self.host, user=self.user, controller_port=controller_port, nodes="\n".join(nodes),
            first_job=1000 + int(time.time() * 10) % 60000000, slots=self.slots, gpus=self.gpus, grace=self.grace,
            kill_wait=self.kill_wait, more=self.more))
        for number in range(self.gpus):  # Slurm needs devices, but does not check them
            (self.folder / f"gpu{number}").symlink_to("/dev/null")
        (self.folder / "gres.conf").write_text(
            "".join(f"Name=gpu File={self.folder}/gpu{number}\n" for number in range(self.gpus)))
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost {self.host} {' '.join(self.nodes)}\n")
        (self.folder / "mpi.conf").write_text(f"PMIxCliTmpDirBase={self.folder}/pmix\n")

    def start_daemon(self, name, *command):
        with open(self.folder / f"{name}.out", "w") as out:
            self.daemons[name] = subprocess.Popen(command, env=self.environment, cwd=self.folder,
                                                  stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def wait_until(self, condition, what, limit=60):
        """Waits for the condition. If a daemon ends or time is up: an error with the last lines of the daemons."""
        end = time.monotonic() + limit
        while not condition():
            dead = [name for name, process in self.daemons.items() if process.poll() is not None]
            if dead or time.monotonic() > end:
                raise AssertionError(f"{what}: not so after {limit} s, or ended: {dead}\n{self.last_words()}")
            time.sleep(0.1)

    def last_words(self):
        texts = []
        for path in sorted(self.folder.glob("*.out")) + sorted(self.folder.glob("*.log")):
            texts.append(f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:]))
        return "\n".join(texts)

    def stop(self):
        """Ends jobs, daemons and all their processes. The logs are deleted with the folder."""
        if self.folder is None:
            return
        try:
            for process in reversed(self.daemons.values()):
                process.terminate()
            for process in self.daemons.values():
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        finally:
            # Steps, batch scripts and ranks can outlive slurmd. All have the SLURM_CONF of the cluster.
            kill_all(f"SLURM_CONF={self.folder}/slurm.conf")
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder, self.daemons = None, {}

    def command(self, *words, check=True, limit=60, environment=None, **options):
        """The ended process of a command of Slurm (or any other) on this cluster."""
        done = subprocess.run([str(word) for word in words], env={**self.environment, **(environment or {})}, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=limit,
                              **options)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(done.args)}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def submit(self, script, *arguments, options=(), environment=None, **more):
        """The id of a job: sbatch OPTIONS SCRIPT ARGUMENTS."""
        out = self.command("sbatch", "--parsable", *options, script, *arguments, environment=environment, **more).stdout
        return out.strip().split(";")[0]

    def fields(self, job):
        """The fields of `scontrol show job`: {"JobState": "RUNNING", "ExitCode": "0:0", "Restarts": "0", ...}."""
        text = self.command("scontrol", "show", "job", "-o", job).stdout
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def state(self, job):
        return self.fields(job)["JobState"]

    def wait_for(self, job, state, limit):
        """Waits for this state of the job and returns its fields. Another final state is an error at once."""
        seen = {}

        def reached():
            seen.update(self.fields(job))
            ended_otherwise = seen["JobState"] in FINAL and seen["JobState"] != state
            assert not ended_otherwise, f"{state} was expected of job {job}, not {seen}"
            return seen["JobState"] == state

        self.wait_until(reached, f"job {job} is {state}", limit)
        return seen

    def processes(self, job):
        """Ids of the processes of a job: batch script, launchers, ranks."""
        ours = set(processes_with(f"SLURM_CONF={self.folder}/slurm.conf"))
        return sorted(ours & set(processes_with(f"SLURM_JOB_ID={job}")))
