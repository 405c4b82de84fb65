"""The package as a user installs it: `pip install .` in a new virtual environment, and then the cases_*.py beside this
file. The environment is made in the build folder, and sees the torch of the Python that runs this, if there is one: cmake
-DSPIKEFLOSS_PYTHON=ENV/bin/python chooses one with torch, snntorch, norse, spikingjelly and nir. Skipped (exit
code 77) where PyPI, python3-venv or python3-dev is missing.
"""
import os
import pathlib
import subprocess
import sys
import sysconfig

SKIPPED = 77
SOURCE = pathlib.Path(os.environ["SPIKEFLOSS_SOURCE"])
BUILD = pathlib.Path(os.environ["SPIKEFLOSS"]).parent
VENV = BUILD / "python_venv"


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def main():
    if not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").is_file():
        skip("Python.h is missing (apt-get install python3-dev)")
    made = subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", VENV], capture_output=True, text=True,
                          check=False)
    if made.returncode:
        skip(f"python3 -m venv failed (apt-get install python3-venv): {(made.stdout + made.stderr).strip()[-300:]}")
    python = str(VENV / "bin" / "python")
    if sys.prefix != sys.base_prefix:  # this Python is in an environment, whose torch the new one shall see, too
        own = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True,
                             text=True, check=True).stdout.strip()
        (pathlib.Path(own) / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install"]
    fetched = subprocess.run([*pip, "-q", "--retries", "1", "--timeout", "10", "nanobind>=2.4", "ninja",
                              "scikit-build-core>=0.11", "typing_extensions", "numpy", "h5py"],
                             capture_output=True, text=True, check=False)
    if fetched.returncode:
        skip(f"pip cannot install from PyPI: {fetched.stderr.strip()[-300:]}")
    # The package needs none of these. Cases that use one that is missing are skipped, and the log says so.
    extras = ["mypy", "matplotlib", "pandas", "xarray", "nbclient", "ipykernel"]
    fetched = subprocess.run([*pip, "-q", "--retries", "1", "--timeout", "10", "--upgrade", "numpy", "h5py", *extras],
                             capture_output=True, text=True, check=False)
    if fetched.returncode:
        print(f"pip cannot install {', '.join(extras)}, so cases are left out: {fetched.stderr.strip()[-300:]}")
    installed = subprocess.run([*pip, "--no-build-isolation", "--no-deps", "--force-reinstall",
                                "--config-settings=cmake.define.SPIKEFLOSS_PYTHON_PROGRAM=OFF",
                                f"--config-settings=build-dir={BUILD / 'python_build'}", SOURCE],
                               capture_output=True, text=True, check=False)
    if installed.returncode:
        print(installed.stdout[-4000:], installed.stderr[-4000:])
        sys.exit(1)
    here = pathlib.Path(__file__).parent
    cases = sorted(path.stem for path in here.glob("cases_*.py"))
    sys.exit(subprocess.run([python, "-m", "unittest", "-v", *cases], cwd=here, check=False).returncode)


if __name__ == "__main__":
    main()
