"""Builds the C++17 kernels: every app/kernels/<name>.cpp becomes the module ostwald.app.kernels._<name>.

OSTWALD_MARCH chooses the target of -march (default: native); OSTWALD_OPENMP=0 builds without threads;
OSTWALD_KERNELS=0 leaves the kernels out: the installer compiles them in place, on all cores (build_ext --inplace -j).
"""

import os
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import setup

HERE = Path(__file__).parent
march = os.environ.get("OSTWALD_MARCH", "native")
openmp = os.environ.get("OSTWALD_OPENMP", "1") != "0"
flags = ["-O3", f"-march={march}", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wall"]
flags += ["-Wno-maybe-uninitialized"]  # gcc 12 warns of the vector registers that a loop over their lanes fills
flags += ["-fopenmp"] if openmp else ["-Wno-unknown-pragmas"]
headers = sorted(str(p.relative_to(HERE)) for p in (HERE / "app/kernels").glob("*.hpp"))

sources = sorted((HERE / "app/kernels").glob("*.cpp")) if os.environ.get("OSTWALD_KERNELS", "1") != "0" else []

setup(
    ext_modules=[
        Pybind11Extension(
            f"ostwald.app.kernels._{source.stem}",
            [str(source.relative_to(HERE))],
            depends=headers,
            cxx_std=17,
            extra_compile_args=flags,
            extra_link_args=["-fopenmp"] if openmp else [],
        )
        for source in sources
    ],
    cmdclass={"build_ext": build_ext},
)
