"""Batch jobs on a real Slurm of one node: an interruption of a job costs no more than the steps since the last
checkpoint, and no cancelled job leaves a process behind.
"""
import os
import re
import signal

import batch_jobs
import slurm_cluster
import program
from slurm_cluster import SlurmCluster

# mpirun waits for twice this time. The default in launch/slurm/common.sh is for a KillWait of 30 s.
MPIRUN = {"LAUNCHER": "mpirun", "OMPI_MCA_odls_base_sigkill_timeout": "3"}


class TrainTest(batch_jobs.JobTest):
    @classmethod
    def setUpClass(cls):
        cls.cluster = SlurmCluster(kill_wait=10)
        cls.cluster.start()

    def test_finishes(self):
        self.train_steps(20)
        job = self.submit("plain")
        self.wait_for(job, "COMPLETED", "plain")
        log = self.log("plain")
        for fragment in (f"job {job} (plain), partition low, start 1", f"nodes: {self.cluster.host}; 2 ranks", "slurm",
                         "spikefloss   ", "Open MPI", f"tail -F {self.folder}/plain.log", f"scancel {job}",
                         "train.sbatch small.toml --run-dir plain --threads 1 --resume\n", "srun --mpi=pmix --ntasks=2",
                         " train small.toml --run-dir plain --threads 1 \n", "on a 1x2 grid", "exit code 0"):
            self.assertIn(fragment, log)
        self.same_as_one_run("plain")

    def test_wrong_input(self):
        """Ends with 2 at once and says what to do. There are no retries."""
        self.train_steps(20)
        script = self.clone / "launch" / "slurm" / "train.sbatch"
        cases = {
            "no_config": (["sbatch", script], {}, "no config is named"),
            "missing_config": (["sbatch", script, "nothing.toml"], {}, "no config file nothing.toml that can be read"),
            "wrong_key": (["sbatch", script, "small.toml", "--set", "train.step=3"], {}, "train.step"),
            "retries": (["sbatch", script, "small.toml"], {"RETRIES": "often"}, "RETRIES=often is not a number"),
            "launcher": (["sbatch", script, "small.toml"], {"LAUNCHER": "ssh"}, "LAUNCHER=ssh is not known"),
            "mpi": (["sbatch", script, "small.toml"], {"SLURM_MPI_TYPE": "pmi7"}, "no --mpi=pmi7, but .*pmix.*\n.*LAUNCHER=mpirun"),
            "not_built": (["sbatch", script, "small.toml"], {"PRESET": "gpu-release"},
                          "PRESET=gpu-release '?%s/launch/build'? spikefloss" % re.escape(str(self.clone))),
            "signals": (["sbatch", script, "small.toml", "--set", 'run.stop_signals=["TERM"]'], {}, "no signal that srun"),
            "root": (["sbatch", script, "small.toml"], {"SPIKEFLOSS_ROOT": "/nowhere"}, "is not at /nowhere"),
        }
        jobs = {}
        for name, (command, environment, _) in cases.items():
            command[1:1] = ["--parsable", f"--output={name}.log"]
            out = self.cluster.command(*command, environment=environment, cwd=self.folder).stdout
            jobs[name] = out.strip()
        for name, job in jobs.items():
            fields = self.wait_for(job, "FAILED", name)
            self.assertEqual((fields["ExitCode"], fields["Restarts"]), ("2:0", "0"), self.log(name))
            self.assertRegex(self.log(name), cases[name][2])
            self.assertIn("\n  what to do: ", self.log(name))
            self.assertNotIn("retry", self.log(name))
        # Started without sbatch.
        done = self.cluster.command(script, "small.toml", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("this is a batch script: sbatch", done.stderr)

    def test_exit_codes(self):
        """The exit codes that are retried, the number of retries, and their options."""
        self.program_is('echo "called: $*"\nexit "$CODE"\n')
        expected = {"0": ("COMPLETED", 1), "3": ("FAILED", 1), "75": ("FAILED", 3), "137": ("FAILED", 3)}
        jobs = {code: self.submit(f"code_{code}", options=["--ntasks=1"], 
                                   environment={"CODE": code, "RETRIES": "2", "RETRY_WAIT": "1"})
                for code in expected}
        for code, (state, calls) in expected.items():
            fields = self.wait_for(jobs[code], state, f"code_{code}")
            self.assertEqual(fields["ExitCode"], f"{code}:0")
            called = re.findall("^called: .*$", self.log(f"code_{code}"), re.MULTILINE)
            self.assertEqual(len(called), calls, self.log(f"code_{code}"))
            self.assertNotIn("--resume", called[0])
            for line in called[1:]:
                self.assertRegex(line, "--resume$")

    def test_without_the_path_of_the_script(self):
        """Slurm has no path of a script from standard input. SPIKEFLOSS_ROOT or the folder then gives the clone."""
        self.train_steps(2)
        script = (self.clone / "launch" / "slurm" / "train.sbatch").read_text()
        for name, folder, environment in (("root", self.folder, {"SPIKEFLOSS_ROOT": str(self.clone)}),
                                          ("here", self.clone, {})):
            job = self.cluster.command(
                "sh", "-c", 'printf "%s" "$0" | sbatch --parsable "$@"', script, f"--output={self.folder}/{name}.log",
                "/dev/stdin", self.folder / "small.toml", "--run-dir", self.folder / name, environment=environment,
                cwd=folder).stdout.strip()
            self.wait_for(job, "COMPLETED", name)

    def test_time_limit(self):
        """Both launchers: signal, checkpoint, requeue, the same end. Slurm may send the signal up to 60 s early: here 10 to
        70 s after the start. At the start itself it would end the script before its first line."""
        jobs = {name: self.submit(name, options=["--time=2", "--signal=B:USR1@50"], environment=environment)
                for name, environment in (("by_srun", {}), ("by_mpirun", MPIRUN))}
        for name in jobs:
            self.wait_for_log(name, r"USR1: stopping after this step with a checkpoint")
            self.wait_for_log(name, r"exit code 85\n.*scontrol requeue \d+")
        for job in jobs.values():
            self.cluster.command("scontrol", "update", f"JobId={job}", "TimeLimit=10")
        self.finish(jobs)
        for name in jobs:
            self.assertRegex(self.log(name), "start 2\n")
            self.assertNotIn("retry", self.log(name))

    def test_preemption(self):
        job = self.submit("low")
        self.wait_for_checkpoints("low")
        high = self.folder / "high.sh"
        high.write_text("#!/bin/sh\nsleep 1\n")
        urgent = self.cluster.submit(high, options=["-p", "high", "--exclusive", "--output=/dev/null"])
        self.wait_for_log("low", r"exit code 85\n")
        self.wait_for(urgent, "COMPLETED", "low")
        fields = self.cluster.fields(job)
        self.assertEqual(fields["Restarts"], "1", str(fields))
        self.finish({"low": job})

    def test_scancel(self):
        """Ends soon and is not requeued. There is a checkpoint, and no process is left."""
        jobs = {"by_srun": self.submit("by_srun"), "by_mpirun": self.submit("by_mpirun", environment=MPIRUN)}
        self.wait_for_checkpoints(*jobs)
        for name, job in jobs.items():
            self.cluster.command("scancel", job)
        for name, job in jobs.items():
            self.wait_for(job, "CANCELLED", name)
            self.cluster.wait_until(lambda: not self.cluster.processes(job), f"nothing of job {job} is left")
            stopped = re.search(r"stopped by a signal after training step (\d+)", self.log(name) + self.record(name))
            self.assertTrue(stopped, f"--- {name}.log\n{self.log(name)}\n--- log.txt\n{self.record(name)}")
            self.assertEqual(self.last_step(name), int(stopped[1]))
            self.assertNotIn("scontrol requeue", self.log(name))
            self.assertEqual(self.cluster.fields(job)["Restarts"], "0")

    def record(self, name):
        return (self.folder / name / "log.txt").read_text()

    def test_lost_rank(self):
        """One rank is killed, another hangs: the job step ends, and the next one continues from the checkpoint."""
        jobs = {"killed": self.submit("killed"), "stopped": self.submit("stopped", batch_jobs.WATCHDOG, 5)}
        self.wait_for_checkpoints(*jobs)
        os.kill(self.ranks(jobs["killed"])[1], signal.SIGKILL)
        os.kill(self.ranks(jobs["stopped"])[0], signal.SIGSTOP)
        # KillWait, because a rank that received SIGTERM waits for the lost one.
        self.wait_for_log("killed", r"exit code (137|75)\n.*retry 1 of 3", limit=60)
        self.wait_for_log("stopped", r"exit code (137|75)\n.*retry 1 of 3", limit=60)
        self.assertRegex(self.log("stopped"), r"error: .*rank 0 \(")
        self.finish(jobs)

    def test_signals_by_hand(self):
        """scancel --signal checkpoints and requeues, for any receiver, with the signal of run.stop_signals."""
        cases = {"steps": ([], {}, []), "batch": (["--batch"], MPIRUN, []),
                 "full": (["--full"], {}, []), "other": (["--batch"], {}, ["--set", 'run.stop_signals=["USR2"]'])}
        jobs = {name: self.submit(name, *arguments, environment=environment)
                for name, (_, environment, arguments) in cases.items()}
        self.wait_for_checkpoints(*jobs)
        for name, job in jobs.items():
            self.cluster.command("scancel", "--signal=USR1", *cases[name][0], job)
        for name, job in jobs.items():
            self.wait_for_log(name, r"exit code 85\n")
            self.cluster.wait_until(lambda: self.cluster.fields(job)["Restarts"] == "1", f"{name} is requeued", 60)
        self.finish(jobs)

    def test_gpu_flags(self):
        """The GPUs of the node are emulated, so the test program prints the GPUs that Slurm has chosen."""
        self.program_is('echo "rank $SLURM_PROCID sees GPU $CUDA_VISIBLE_DEVICES"\nexec %s "$@"\n' % program.PROGRAM)
        self.train_steps(2)
        cases = {"gres": (["--gres=gpu:2"], {"0": "0,1", "1": "0,1"}),
                 "per_task": (["--gpus-per-task=1"], {"0": "0", "1": "0|1"}),
                 "per_node": (["-N", "1", "--ntasks-per-node=2", "--gpus-per-node=1", "-p", "high"], {"0": "[01]"})}
        for name, (options, expected) in cases.items():
            job = self.submit(name, options=options)
            self.wait_for(job, "COMPLETED", name)
            self.assertRegex(self.log(name), r"; GPUs \d")
            for rank, gpus in expected.items():
                self.assertRegex(self.log(name), f"rank {rank} sees GPU ({gpus})\n")
        refused = self.cluster.command("sbatch", "--gres=gpu:3", self.clone / "launch" / "slurm" / "train.sbatch",
                                       "small.toml", check=False, cwd=self.folder)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("Requested node configuration is not available", refused.stderr)

    def test_cpus_of_a_rank(self):
        self.train_steps(2)
        job = self.cluster.submit(self.clone / "launch" / "slurm" / "train.sbatch", "small.toml", "--run-dir", "cpus",
                                  options=["--ntasks=2", "--cpus-per-task=3", "--output=cpus.log"], cwd=self.folder)
        self.wait_for(job, "COMPLETED", "cpus")
        self.assertIn("on a 1x2 grid with 3 threads a rank", self.log("cpus"))
        self.assertEqual(self.cluster.fields(job)["NumCPUs"], "6")

    def test_clusters_side_by_side(self):
        script = self.folder / "job.sh"
        script.write_text("#!/bin/sh\nsrun sleep 1000 &\nwait\n")
        with SlurmCluster() as other:
            job = other.submit(script, options=["--output=/dev/null"])
            other.wait_for(job, "RUNNING", 60)
            other.wait_until(lambda: len(other.processes(job)) >= 3, "a step runs")
            self.assertEqual(self.cluster.command("squeue", "-h").stdout, "")
            settings = f"SLURM_CONF={other.folder}/slurm.conf"
            self.assertGreater(len(slurm_cluster.processes_with(settings)), 5)
        self.assertEqual(slurm_cluster.processes_with(settings), [])
        self.test_finishes()


class ContainerTest(batch_jobs.JobTest):
    """Stubs remove the options of the container launcher, print them, and run the command."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = SlurmCluster(kill_wait=10)
        cls.cluster.start()

    def setUp(self):
        super().setUp()
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        (self.folder / "image.sif").touch()
        self.environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "IMAGE": str(self.folder / "image.sif"),
                            "PROGRAM": str(self.clone / "build" / "cpu-release" / "spikefloss")}

    def stand_in(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def apptainer(self):
        self.stand_in("apptainer", '#!/bin/bash\n[ "$1" = exec ] && shift || exit 9\necho "apptainer exec $*" >&2\n'
                      'while [ "${1#--}" != "$1" ]; do case $1 in --nv) shift ;; --bind | --pwd) shift 2 ;; *) exit 9 ;; esac\n'
                      'done\n[ -e "$1" ] || exit 9\nshift\nexec "$@"\n')

    def test_apptainer(self):
        """With a requeue: a signal reaches the program, the script on the host requeues."""
        self.apptainer()
        job = self.submit("contained", script="train_container", options=["--gres=gpu:1"],
                          environment={**self.environment, "MOUNTS": "/usr/share,/var"})
        self.wait_for_checkpoints("contained")
        self.cluster.command("scancel", "--signal=USR1", "--batch", job)
        self.wait_for_log("contained", r"exit code 85\n.*scontrol requeue \d+")
        self.finish({"contained": job})
        command = (f"apptainer exec --pwd {self.folder} --nv --bind {self.folder} --bind /usr/share --bind /var "
                   f"{self.folder}/image.sif {self.environment['PROGRAM']}")
        self.assertEqual(self.log("contained").count(command + " train small.toml"), 6, self.log("contained"))
        self.assertEqual(self.log("contained").count(command + " info\n"), 2)

    def test_apptainer_under_mpirun(self):
        self.apptainer()
        self.train_steps(2)
        elsewhere = self.folder / "else where"
        elsewhere.mkdir()
        (self.folder / "small.toml").rename(elsewhere / "small.toml")
        job = self.submit("contained", script="train_container", config=elsewhere / "small.toml",
                          environment={**self.environment, **MPIRUN})
        self.wait_for(job, "COMPLETED", "contained")
        self.assertIn(f"apptainer exec --pwd {self.folder} --bind {self.folder} --bind {elsewhere} ", self.log("contained"))
        self.assertNotIn("--nv", self.log("contained"))
        self.assertIn("on a 1x2 grid", self.log("contained"))

    def test_pyxis(self):
        self.stand_in("srun", '#!/bin/bash\n[ "$1" = --help ] && echo "--container-image" && exit\n'
                      'echo "srun $*" >&2\nwords=()\nfor word; do [[ $word == --container-@(image|mounts|workdir)=?* ]] '
                      '|| words+=("$word"); done\n'
                      'exec /usr/bin/srun "${words[@]}"\n')
        self.train_steps(2)
        job = self.submit("contained", script="train_container",
                          environment={**self.environment, "MOUNTS": "/var", "IMAGE": "registry#spikefloss:cuda"})
        self.wait_for(job, "COMPLETED", "contained")
        self.assertIn(f"srun --mpi=pmix --ntasks=2 --kill-on-bad-exit=1 --container-image=registry#spikefloss:cuda "
                      f"--container-mounts={self.folder}:{self.folder},/var:/var --container-workdir={self.folder} "
                      f"{self.environment['PROGRAM']} train small.toml", self.log("contained"))
        self.assertIn("on a 1x2 grid", self.log("contained"))

    def test_wrong_input(self):
        self.apptainer()
        cases = {"no_image": ({"IMAGE": ""}, "no image is named"),
                 "missing_image": ({"IMAGE": "/nothing.sif"}, "there is no image /nothing.sif"),
                 "kind": ({"CONTAINER": "docker"}, "CONTAINER=docker is not known"),
                 "mpirun": ({"CONTAINER": "pyxis", "LAUNCHER": "mpirun"}, "with srun only"),
                 "nothing": ({"PATH": "/usr/bin:/bin"}, "neither pyxis .* nor apptainer is on")}
        jobs = {name: self.submit(name, script="train_container", environment={**self.environment, **change})
                for name, (change, _) in cases.items()}
        for name, job in jobs.items():
            self.assertEqual(self.wait_for(job, "FAILED", name)["ExitCode"], "2:0", self.log(name))
            self.assertRegex(self.log(name), cases[name][1])


if __name__ == "__main__":
    batch_jobs.main()
