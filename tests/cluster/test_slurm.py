"""Batch jobs on a real Slurm of one node."""
import slurm_cluster
import program
from slurm_cluster import SlurmCluster


class SlurmTest(program.ProgramTest):
    def test_two_clusters_side_by_side(self):
        job = self.folder / "job.sh"
        job.write_text("#!/bin/sh\nsrun hostname\n")
        with SlurmCluster() as one, SlurmCluster() as other:
            jobs = [(cluster, cluster.submit(job, cwd=self.folder)) for cluster in (one, other)]
            for cluster, number in jobs:
                cluster.wait_for(number, "COMPLETED", limit=60)


if __name__ == "__main__":
    if slurm_cluster.missing():
        program.skip(f"not installed: {slurm_cluster.missing()} (launch/packages_for_tests)")
    program.main()
