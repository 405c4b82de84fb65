"""bench/kernels counts the instructions of a loop as written in machine code."""
import importlib.machinery
import importlib.util
import pathlib
import unittest

SCRIPT = str(pathlib.Path(__file__).resolve().parents[2] / "bench/kernels")
loader = importlib.machinery.SourceFileLoader("kernels", SCRIPT)
kernels = importlib.util.module_from_spec(importlib.util.spec_from_loader("kernels", loader))
loader.exec_module(kernels)

# Two nested loops, 0x20 to 0xc0 and 0x40 to 0xa0, and the branch to itself that ends every kernel.
SASS = """
\t\tFunction : _ZN10spikefloss6kernelIiLi8EEEvi
\t.headerflags\t@"EF_CUDA_SM90"
        /*0000*/                   LDC R1, c[0x0][0x28] ;                  /* 0x00000a00ff017b82 */
                                                                           /* 0x000ff00000000800 */
        /*0010*/                   STL.64 [R1], R2 ;                       /* 0x00000a00ff017b82 */
        /*0020*/                   LDG.E.128 R4, desc[UR4][R2.64] ;        /* 0x00000a00ff017b82 */
        /*0030*/                   DFMA R4, R4, R6, R8 ;                   /* 0x00000a00ff017b82 */
        /*0040*/                   LDS.128 R4, [R2] ;                      /* 0x00000a00ff017b82 */
        /*0050*/                   LDS R9, [R2+0x10] ;                     /* 0x00000a00ff017b82 */
        /*0060*/                   FFMA R4, R4, R6, R8 ;                   /* 0x00000a00ff017b82 */
        /*0070*/              @!P0 FFMA R5, R4, R6, R8 ;                   /* 0x00000a00ff017b82 */
        /*0080*/                   LDL R5, [R1] ;                          /* 0x00000a00ff017b82 */
        /*0090*/                   ISETP.NE.AND P0, PT, R3, RZ, PT ;       /* 0x00000a00ff017b82 */
        /*00a0*/               @P0 BRA 0x40 ;                              /* 0x00000a00ff017b82 */
        /*00b0*/              @!P1 BRA 0xd0 ;                              /* 0x00000a00ff017b82 */
        /*00c0*/                   BRA 0x20 ;                              /* 0x00000a00ff017b82 */
        /*00d0*/                   EXIT ;                                  /* 0x00000a00ff017b82 */
        /*00e0*/                   BRA 0xe0;                               /* 0x00000a00ff017b82 */
"""


class KernelCounts(unittest.TestCase):
    def setUp(self):
        functions = kernels.functions_of(SASS)
        self.assertEqual(list(functions), ["_ZN10spikefloss6kernelIiLi8EEEvi"])
        self.instructions = functions["_ZN10spikefloss6kernelIiLi8EEEvi"]

    def test_every_instruction_is_read(self):
        self.assertEqual(len(self.instructions), 15)
        self.assertEqual(kernels.local_accesses(self.instructions), 2)

    def test_innermost_loop(self):
        (loop,) = kernels.innermost_loops(self.instructions)
        self.assertEqual((loop[0].address, loop[-1].address), (0x40, 0xa0))
        # 20 bytes of a thread from shared memory: 640 of a warp, in 5 cycles, for four warps.
        self.assertEqual(kernels.counted(loop), kernels.Loop(fma=2, dfma=0, mma=0, shared=2, shared_bytes=20, global_=0, global_bytes=0,
                                                             local=1, issue=7, passes=20))

    def test_bytes_of_a_thread(self):
        for name, size in {"LDS": 4, "STS.64": 8, "LDG.E.128": 16, "LDS.U8": 1, "LDSM.16.M88.4": 16, "LDSM.16.MT88.2": 8}.items():
            self.assertEqual(kernels.bytes_of(name), size, name)

    def test_names_lose_namespaces_and_arguments(self):
        self.assertEqual(kernels.readable(["_ZN10spikefloss6kernelIiLi8EEEvi"]), ["kernel<int, 8>"])


if __name__ == "__main__":
    unittest.main()
