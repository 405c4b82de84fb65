"""Batch jobs over several nodes of a real Slurm: both launchers, and a node that is switched off during training."""
import batch_jobs
from slurm_cluster import SlurmCluster
from test_slurm import MPIRUN

NODES = 4


class NodesTest(batch_jobs.JobTest):
    @classmethod
    def setUpClass(cls):
        # SlurmdTimeout: Slurm regards a node as down after this time without an answer, 5 minutes by default.
        cls.cluster = SlurmCluster(nodes=NODES, slots=4, kill_wait=10, more="SlurmdTimeout=6")
        cls.cluster.start()

    def test_four_nodes(self):
        """A rank on each node, two neuron shards by two batch shards: stopped by a signal, requeued, the same end."""
        jobs = {name: self.submit(name, "--grid", "2x2", options=["-N4", "--ntasks-per-node=1", "--gres=gpu:1"],
                                  environment=environment)
                for name, environment in (("by_srun", {}), ("by_mpirun", MPIRUN))}
        self.wait_for_checkpoints(*jobs)
        for name, job in jobs.items():
            self.assertIn(f"nodes: {' '.join(self.cluster.nodes)}; 4 ranks; GPUs ", self.log(name))
            self.assertIn("on a 2x2 grid", self.log(name))
            self.cluster.command("scancel", "--signal=USR1", "--batch", job)
        for name in jobs:
            self.wait_for_log(name, r"exit code 85\n.*scontrol requeue \d+")
        self.finish(jobs, ranks=4, grid="2x2")
        # Every rank has its own machine, and reports it.
        for name in jobs:
            session = (self.folder / name / "session.json").read_text()
            for node in self.cluster.nodes:
                self.assertIn(f'"host": "{node}"', session)

    def test_preemption(self):
        """All ranks end with 85, although srun ends the others as soon as the first one has ended."""
        job = self.submit("low", options=["-N4", "--ntasks-per-node=1"])
        self.wait_for_checkpoints("low")
        high = self.folder / "high.sh"
        high.write_text("#!/bin/sh\nsleep 1\n")
        urgent = self.cluster.submit(high, options=["-p", "high", "-N4", "--exclusive", "--output=/dev/null"])
        self.wait_for(urgent, "COMPLETED", "low")
        self.assertRegex(self.log("low"), r"exit code 85\n.*scontrol requeue \d+")
        self.assertNotIn("retry", self.log("low"))
        self.finish({"low": job}, ranks=4, grid="1x4")

    def test_node_failure(self):
        """The program or the launcher may detect it before Slurm does. The job continues on other nodes in any case."""
        job = self.submit("lost", batch_jobs.WATCHDOG, 3, options=["-N2", "--ntasks-per-node=1"], environment={"RETRY_WAIT": "20"})
        self.wait_for_checkpoints("lost")
        self.assertEqual(self.cluster.fields(job)["NodeList"], "node[1-2]")
        self.cluster.kill_node("node2")
        try:
            self.wait_for_log("lost", "nodes: node. node.; 2 ranks\n(.*\n)*.*start 2\n.*nodes: node[134] node[134]; 2 ranks")
            self.finish({"lost": job})
        finally:
            self.cluster.start_node("node2")
            self.cluster.wait_until(self.cluster.all_idle, "all nodes are idle")


if __name__ == "__main__":
    batch_jobs.main(NODES)
