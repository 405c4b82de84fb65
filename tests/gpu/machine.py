"""What tests/gpu/run needs of the machine: the carried files unpacked, and an environment in which they run."""

import glob
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

HERE = pathlib.Path(__file__).resolve().parent
CUDA_LIBRARIES = (
    "libcublas.so.13",
    "libcublasLt.so.13",
    "libcusolver.so.12",
    "libcusparse.so.12",
    "libnvJitLink.so.13",
    "libnccl.so.2",
    "libcuda.so.1",
)


def unpack(to):
    """Unpacks the carried files, which are beside this file or where tests/gpu/pack puts them. Returns their folder."""
    for place in (HERE, HERE.parents[1] / "build/gpu/carry"):
        if (place / "payload.tar.xz").exists():
            with tarfile.open(place / "payload.tar.xz") as archive:
                archive.extractall(
                    to, **({"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {})
                )
            return to
    sys.exit("run: there is no payload.tar.xz: make it with tests/gpu/pack on the machine that builds")


def packed(carry):
    """What tests/gpu/pack wrote about the payload: source, emulated, bench_arguments, tests."""
    return json.loads((carry / "tests.json").read_text())


def library_folders(carry, emulated):
    """Folders for LD_LIBRARY_PATH, and the CUDA libraries that are missing. The carried libraries are first. Those of
    CUDA are in a toolkit or in Python packages."""
    folders, missing = [carry / "lib"], []
    known = (
        subprocess.run(["ldconfig", "-p"], stdout=subprocess.PIPE, text=True).stdout if shutil.which("ldconfig") else ""
    )
    if (
        "libstdc++.so.6" not in known
        and not glob.glob("/usr/lib/*/libstdc++.so.6")
        and not glob.glob("/usr/lib64/libstdc++.so.6")
    ):
        folders.append(carry / "fallback")
    if emulated:
        return folders, missing
    places = [
        "/usr/local/cuda/lib64",
        "/usr/local/cuda*/lib64",
        "/usr/local/cuda*/targets/*/lib",
        "/usr/local/cuda*/lib",
        "/usr/local/nvidia/lib64",
    ]
    program = "import site, sys; print('\\n'.join(site.getsitepackages() + sys.path))"
    roots = subprocess.run(
        [shutil.which("python3") or sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ).stdout.split()
    places += [
        pattern for root in dict.fromkeys(roots) for pattern in (f"{root}/nvidia/cu13/lib", f"{root}/nvidia/*/lib")
    ]
    for library in CUDA_LIBRARIES:
        if library in known:
            continue
        found = next((path for place in places for path in sorted(glob.glob(f"{place}/{library}"))), None)
        if found and pathlib.Path(found).parent not in folders:
            folders.append(pathlib.Path(found).parent)
        if not found:
            missing.append(library)
    return folders, missing


def environment_of(carry, folders):
    """For our executables. The libraries of Python must not load the carried ones."""
    mpi = carry / "mpi"
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(map(str, folders)),
        "PATH": f"{mpi}/bin:{os.environ.get('PATH', '/usr/bin:/bin')}",
        # Open MPI searches its plugins and helpers below this folder, not where it was installed.
        "OPAL_PREFIX": str(mpi),
        "OMPI_MCA_ess_singleton_isolated": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMPI_MCA_btl_base_warn_component_unused": "0",
        "OMPI_MCA_plm": "isolated",
        "OMPI_MCA_btl": "self",
        "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
        "OMPI_MCA_hwloc_base_binding_policy": "none",
        "OMP_NUM_THREADS": "4",
        "SPIKEFLOSS_REQUIRE_GPU": "1",
        "SPIKEFLOSS": str(carry / "bin/spikefloss"),
        "SPIKEFLOSS_SOURCE": str(carry / "root"),
        "MPIEXEC": str(mpi / "bin/mpirun"),
    }


def several_ranks(environment):
    """Ranks communicate through shared memory. Processes of one rank do not: all of them would name it alike."""
    return {**environment, "OMPI_MCA_btl": "self,vader"}


def own_folder(folder, slot):
    """Variables for one of the processes that run at the same time. Without mpirun all of them have the same job number
    in Open MPI, so that in one folder each would remove the files of the others."""
    place = folder / f"slot{slot}"
    place.mkdir(exist_ok=True)
    return {"OMPI_MCA_orte_tmpdir_base": str(place)}


def place_sources(carry, source):
    """Executables contain the path of their source folder. If it is missing, makes a link. Returns the link or None."""
    if os.path.exists(source):
        return None
    try:
        os.makedirs(os.path.dirname(source), exist_ok=True)
        os.symlink(carry / "root", source)
        return source
    except OSError as error:
        print(f"run: cannot make {source} ({error}); tests that read data will fail", flush=True)
        return None


def tool(name):
    """The path of a tool of CUDA, or None."""
    places = ("/usr/local/cuda*/bin", "/opt/nvidia/nsight-compute/*", "/usr/local/cuda*/nsight-compute*")
    return shutil.which(name) or next((path for place in places for path in sorted(glob.glob(f"{place}/{name}"))), None)
