"""The worked cases of tests/data through the command line, as a user measures a network file.

float32 must give lambda within 1e-4 and gradients within 1e-3 of their norm, on one rank and on grids, with both
formats of sums. With dyadic weights every sum is exact, so all grids must give the same bits.
"""
import os

import h5py
import numpy as np

import program

CASES = sorted(program.DATA.glob("*.h5"))
# The tests of the library use all cases. Through the command line the quick set uses one case of each reset, one
# with different time constants, and one whose reset acts at once.
FEW = [program.DATA / f"{name}.h5" for name in ("lif_zero_reset", "lif_subtract_reset", "heterogeneous_time_constants",
                                                "immediate_zero_reset")]
# The emulation of CUDA takes seconds for each command. A reset that acts at once has no communication of its own, so
# there its cases run on one rank, with float64 sums.
EMULATED = "SPIKEFLOSS_EMULATION_DEVICES" in os.environ
MOST = [case for case in CASES if not (EMULATED and case.name.startswith("immediate"))]
# Networks of populations and projections: sparse, delayed, of neurons that adapt.
POPULATIONS = sorted((program.DATA / "populations").glob("*.h5"))
FEW_POPULATIONS = [program.DATA / "populations" / f"{name}.h5" for name in ("delays_sparse_qr", "adaptive_current")]
ALONE = (None, "1x1")


def arrays(group):
    """The datasets of a group and of those in it, by path."""
    found = {}
    group.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


class GoldenTest(program.ProgramTest):
    def options(self, case):
        with h5py.File(case) as file:
            expect = file["expect"].attrs
            return ["--network", case, "--input", case, "--warmup", int(expect["warmup"]), "--qr-interval",
                    int(expect["qr_interval"]), "--jacobian-reset", expect["jacobian_reset"]]

    def measure(self, command, case, ranks, grid, *extra):
        output = self.folder / "output.h5"
        self.succeed(command, *self.options(case), "--grid", grid, "--threads", 1, "--output", output, *extra,
                     ranks=ranks)
        contents = program.read_file(output)
        output.unlink()
        return contents

    def check_spectrum(self, case, ranks, grid, sums):
        found = self.measure("spectrum", case, ranks, grid, "--sums", sums)
        with h5py.File(case) as file:
            for name, limit in (("lambda", 1e-4), ("lambda_per_sequence", 1e-4), ("log_r", 1e-3)):
                expected = file["expect"][name][()]
                self.assertEqual(found[name].shape, expected.shape, name)
                self.assertLess(np.abs(found[name] - expected).max(), limit, name)

    def check_gradients(self, case, ranks, grid, sums):
        with h5py.File(case) as file:
            expect = file["expect"]
            for group, loss, extra in (("task_gradient", "task_loss", ["--penalty", "task"]),
                                       ("floss_gradient", "floss_loss", ["--penalty", "floss"]),
                                       ("floss_gradient_direct", "floss_loss", ["--penalty", "floss", "--direct"])):
                found = self.measure("gradients", case, ranks, grid, "--sums", sums, *extra)
                self.assertLess(program.difference(found["loss"], expect.attrs[loss]), 1e-3, group)
                self.assertGreater(len(expect[group]), 0)
                for name, expected in arrays(expect[group]).items():
                    if name == "threshold" and "threshold" not in file["network"]:
                        continue  # one threshold of all neurons has no gradient
                    self.assertEqual(found[name].shape, expected.shape)
                    self.assertLess(program.difference(found[name], expected), 1e-3, f"{group}/{name}")
                if group == "task_gradient":
                    norms = program.difference(found["state_gradient_norm"], expect["state_gradient_norm"])
                    self.assertLess(norms, 1e-3)

    def each_case(self, ranks, grid, sums, cases=MOST):
        self.assertEqual((len(CASES), len(MOST), len(POPULATIONS)), (15, 10 if EMULATED else 15, 10))
        for case in cases:
            with self.subTest(case=case.name, grid=grid, sums=sums):
                self.check_spectrum(case, ranks, grid, sums)
                self.check_gradients(case, ranks, grid, sums)

    def test_float64_sums(self):
        self.each_case(*ALONE, "float64", FEW if program.QUICK else CASES)

    def test_populations(self):
        self.each_case(*ALONE, "float64", FEW_POPULATIONS if program.QUICK else POPULATIONS)

    @program.full
    def test_populations_on_grids(self):
        cases = FEW_POPULATIONS if EMULATED else POPULATIONS
        self.each_case(*ALONE, "float32", FEW_POPULATIONS)
        self.each_case(2, "2x1", "float32", cases[0::2])
        self.each_case(4, "2x2", "float64", cases[1::2])
        if not EMULATED:
            self.each_case(6, "3x2", "float64", FEW_POPULATIONS)

    @program.full
    def test_float32_sums(self):
        self.each_case(*ALONE, "float32")

    # Sizes that are not multiples of the grids: 10, 17, 20, 33 and 64 neurons, 3 sequences.
    def test_grid_2x2(self):
        self.each_case(4, "2x2", "float64", FEW[:1] if program.QUICK else MOST[0::2])

    @program.full
    def test_grid_3x2(self):
        self.each_case(6, "3x2", "float32", MOST[1::2])

    def test_dyadic_weights_give_the_same_bits_on_every_grid(self):
        self.same_bits(program.DATA / "dyadic_weights.h5", program.PARAMETERS)

    def test_dyadic_delays_give_the_same_bits_on_every_grid(self):
        case = program.DATA / "populations" / "dyadic_delays.h5"
        with h5py.File(case) as file:
            names = [name for name in arrays(file["expect/task_gradient"]) if name.startswith("projections")]
        self.same_bits(case, [*names, "bias", "w_out"])

    def same_bits(self, case, names):
        alone = self.measure("gradients", case, *ALONE, "--penalty", "task")
        for grid in ("1x1", "2x2") if program.QUICK else ("1x1", "2x1", "1x2", "4x1", "2x2", "1x4", "3x2", "6x1"):
            neurons, batch = map(int, grid.split("x"))
            with self.subTest(grid=grid):
                found = self.measure("gradients", case, neurons * batch, grid, "--penalty", "task")
                for name in names:
                    self.assertTrue(np.any(alone[name]), name)
                    np.testing.assert_array_equal(found[name], alone[name], name)


if __name__ == "__main__":
    program.main()
