#!/bin/bash
# Installs Ostwald into .venv of this repository.     usage: bash jobscripts/install.sh [md|all]
#
#   md    what molecular dynamics needs: MPI, parallel HDF5, Python packages, the C++ kernels
#   all   and PETSc, torch, Horovod, and the tools of the tests
#
# What the machine lacks comes from apt on Debian and Ubuntu (as root, or where sudo asks no password). Anywhere else,
# on a cluster above all, load modules first; nothing outside the repository is touched then. Settings:
#   MPICC=mpicc          the MPI compiler wrapper; everything is built against this one MPI
#   HDF5_DIR=DIR         a parallel HDF5 of that MPI (else pkg-config and h5pcc are asked)
#   PETSC_DIR=DIR        PETSc of that MPI (PETSC_ARCH too, where it has one); for "all"
#   OSTWALD_PYTHON=EXE   the Python to build on: 3.11 or later, 3.11 for Horovod and PETSc 3.18 (else python3.11, python3)
#   OSTWALD_MARCH=NAME   the compiler's -march for the kernels (else native: this machine)
#   OSTWALD_TORCH_INDEX  a further package index for torch, such as the one with CPU-only wheels
#
# Every step is done once: .venv/stamps/STEP holds a hash of what it depends on. An interrupted run continues where it
# stopped. Output is in build/log/STEP.log; what is compiled from source is kept in build/wheels for the next .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH PYTHONHOME PIP_REQUIRE_VIRTUALENV PIP_USER
export PYTHONNOUSERSITE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=jobscripts/constraints.txt LC_ALL=C.UTF-8

WHAT=${1:-md}
VENV=$PWD/.venv PY=$PWD/.venv/bin/python LOG=$PWD/build/log WHEELS=$PWD/build/wheels STAMPS=$PWD/.venv/stamps
JOBS=$(nproc)
FULL=; [ "$WHAT" = all ] && FULL=1
case $WHAT in md|all) ;; *) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2;; esac

say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }
die() { printf '\nOstwald cannot be installed here:\n' >&2; printf '  %s\n' "$@" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
version() { sed -n "s/^$1==//Ip" jobscripts/constraints.txt; }
digest() { sha256sum | cut -c1-16; }
pip() { timeout --foreground 1500 "$PY" -m pip "$@"; }

# step NAME KEY HINT FUNCTION: runs FUNCTION unless it succeeded before with the same KEY and the same text.
step() {
    local name=$1 key hint=$3 begin=$SECONDS status=0
    key=$(printf '%s\n' "$2" "$(declare -f "$4")" | digest)
    [ "$(cat "$STAMPS/$name" 2>/dev/null)" = "$key" ] && return 0
    say "$name: started"
    mkdir -p "$LOG"
    set +e
    (set -e; "$4") >"$LOG/$name.log" 2>&1 </dev/null 9>&-
    status=$?
    set -e
    if [ $status -ne 0 ]; then
        {
            printf '\nStep "%s" failed with status %d after %d s. The last lines of build/log/%s.log:\n' \
                "$name" $status $((SECONDS - begin)) "$name"
            tail -n 15 "$LOG/$name.log" | sed 's/^/    /'
            printf 'What to do: %s\nThen give the same command again: the finished steps are kept.\n' "$hint"
        } >&2
        return 1
    fi
    mkdir -p "$STAMPS"
    printf '%s\n' "$key" >"$STAMPS/$name"
    say "$name: done in $((SECONDS - begin)) s"
}

# ---------------------------------------------------------------- what the machine provides

find_python() {  # a Python that really runs (a pyenv shim may not) and is new enough
    local candidate
    for candidate in "${OSTWALD_PYTHON:-}" python3.11 /usr/bin/python3.11 python3 python3.12 python3.13; do
        [ -n "$candidate" ] || continue
        PYTHON=$("$candidate" -c 'import sys; print(sys.executable if sys.version_info >= (3, 11) else "")' 2>/dev/null) || PYTHON=
        [ -n "$PYTHON" ] && return
        [ "$candidate" = "${OSTWALD_PYTHON:-}" ] && die "OSTWALD_PYTHON=$candidate does not run, or is older than Python 3.11."
    done
    PYTHON=
}

parallel_header() { grep -Eqs 'define H5_HAVE_PARALLEL +1' "$1"/H5pubconf*.h; }

find_hdf5() {  # HDF5 becomes the environment that tells h5py's build where the parallel HDF5 is; empty if there is none
    local flavour name directory
    HDF5=
    if [ -n "${HDF5_DIR:-}" ]; then
        parallel_header "$HDF5_DIR/include" || die "HDF5_DIR=$HDF5_DIR has no parallel HDF5 (include/H5pubconf.h without H5_HAVE_PARALLEL)." \
            "Load the HDF5 module that belongs to your MPI, or unset HDF5_DIR."
        HDF5="HDF5_DIR=$HDF5_DIR"
        return
    fi
    case $("$MPICC" -show 2>/dev/null) in
        *openmpi*) flavour="hdf5-openmpi hdf5" ;;
        *mpich*) flavour="hdf5-mpich hdf5" ;;
        *) flavour=hdf5 ;;
    esac
    if have pkg-config; then
        for name in $flavour; do
            for directory in $(pkg-config --cflags-only-I "$name" 2>/dev/null | sed 's/-I//g') "$(pkg-config --variable=includedir "$name" 2>/dev/null)"; do
                parallel_header "$directory" && HDF5="HDF5_PKGCONFIG_NAME=$name" && return
            done
        done
    fi
    if have h5pcc; then
        directory=$(dirname "$(dirname "$(readlink -f "$(command -v h5pcc)")")")
        parallel_header "$directory/include" && HDF5="HDF5_DIR=$directory"
    fi
}

find_petsc() {  # PETSC: the prefix; PETSC_VERSION: such as 3.18.5
    PETSC=${PETSC_DIR:-$(pkg-config --variable=prefix PETSc 2>/dev/null || true)} PETSC_VERSION=
    [ -n "$PETSC" ] || return 0
    local header=$PETSC/include/petscversion.h
    [ -f "$header" ] || die "PETSC_DIR=$PETSC has no include/petscversion.h. Load the PETSc module that belongs to your MPI."
    PETSC_VERSION=$(awk '$2 ~ /^PETSC_VERSION_(MAJOR|MINOR|SUBMINOR)$/ {printf "%s%s", dot, $3; dot = "."}' "$header")
}

# look: fills MISSING with lines "what|Debian packages|how to provide it elsewhere"
look() {
    MISSING=()
    MPICC=${MPICC:-mpicc}
    find_python
    if [ -z "$PYTHON" ]; then
        MISSING+=("Python 3.11 or later|python3.11 python3.11-venv python3.11-dev|module load python, or set OSTWALD_PYTHON")
    elif ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        MISSING+=("the venv module of $PYTHON|python3-venv|a complete Python: set OSTWALD_PYTHON")
    fi
    if [ -n "$PYTHON" ] && ! [ -f "$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')/Python.h" ]; then
        MISSING+=("the headers of $PYTHON|python3-dev|a complete Python: set OSTWALD_PYTHON")
    fi
    have g++ || MISSING+=("a C++17 compiler|g++|module load gcc (g++ must be in PATH)")
    if have "$MPICC"; then
        have mpirun || have srun || MISSING+=("mpirun|openmpi-bin|load the complete MPI module")
        find_hdf5
        [ -n "$HDF5" ] || case $("$MPICC" -show 2>/dev/null) in
            *mpich*) MISSING+=("parallel HDF5|pkg-config libhdf5-mpich-dev|module load a parallel HDF5 and set HDF5_DIR") ;;
            *) MISSING+=("parallel HDF5|pkg-config libhdf5-openmpi-dev|module load a parallel HDF5 (hdf5/...-mpi) and set HDF5_DIR") ;;
        esac
    else
        [ "$MPICC" = mpicc ] || die "MPICC=$MPICC is not a program in PATH."
        HDF5=
        MISSING+=("MPI (mpicc)|libopenmpi-dev openmpi-bin|module load an MPI, or set MPICC")
        MISSING+=("parallel HDF5|pkg-config libhdf5-openmpi-dev|module load a parallel HDF5 and set HDF5_DIR")
    fi
    if [ -n "$FULL" ]; then
        find_petsc
        [ -n "$PETSC" ] || MISSING+=("PETSc|pkg-config libpetsc-real-dev|module load petsc and set PETSC_DIR")
        have cmake || MISSING+=("cmake|cmake|module load cmake")
    fi
}

SUDO=
apt_works() {
    have apt-get || return 1
    [ "$(id -u)" = 0 ] && return 0
    have sudo && sudo -n true 2>/dev/null && SUDO="sudo -n"
}

apt_packages() {
    local apt="$SUDO env DEBIAN_FRONTEND=noninteractive timeout --foreground 1200 apt-get -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3"
    $apt update || true  # an unreachable extra source is no reason to stop: the install says what is missing
    $apt install -y --no-install-recommends $PACKAGES
}

provide_system() {
    look
    [ ${#MISSING[@]} -eq 0 ] && return 0
    if apt_works; then
        PACKAGES=$(printf '%s\n' "${MISSING[@]}" | cut -d'|' -f2 | tr ' ' '\n' | sort -u | tr '\n' ' ')
        step system "$PACKAGES $SECONDS $RANDOM" "look at the messages of apt; is the network there, is another apt running?" apt_packages
        look
        [ ${#MISSING[@]} -eq 0 ] && return 0
    fi
    local item lines=()
    for item in "${MISSING[@]}"; do lines+=("missing: ${item%%|*}.  Provide it: ${item##*|}."); done
    have apt-get && lines+=("or, as root:  apt-get install --no-install-recommends $(printf '%s\n' "${MISSING[@]}" | cut -d'|' -f2 | tr ' ' '\n' | sort -u | tr '\n' ' ')")
    die "${lines[@]}"
}

# ---------------------------------------------------------------- the steps

create_venv() { rm -rf "$VENV"; "$PYTHON" -m venv "$VENV"; }

mpi_library() {  # what the MPI of $MPICC calls itself
    local scratch=$PWD/build/scratch-mpi
    mkdir -p "$scratch"
    cat >"$scratch/version.c" <<'END'
#include <mpi.h>
#include <stdio.h>
int main(void) { char text[MPI_MAX_LIBRARY_VERSION_STRING]; int n; MPI_Get_library_version(text, &n); puts(text); return 0; }
END
    "$MPICC" "$scratch/version.c" -o "$scratch/version" && "$scratch/version"
    rm -rf "$scratch"
}

install_build_tools() {
    pip install numpy cython pkgconfig setuptools wheel packaging pybind11 mpi4py
    local ours theirs
    ours=$(mpi_library)
    theirs=$("$PY" -c 'import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(MPI.Get_library_version())' || true)
    echo "mpicc: $ours"; echo "mpi4py: $theirs"
    if [ "$(echo $ours)" != "$(echo $theirs)" ]; then  # the wheel found no MPI, or another one
        MPICC=$MPICC CFLAGS="-O1 -g0 -w" pip install --force-reinstall --no-deps --no-build-isolation --no-binary=mpi4py --no-cache-dir mpi4py
        theirs=$("$PY" -c 'import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(MPI.Get_library_version())')
        [ "$(echo $ours)" = "$(echo $theirs)" ] || { echo "mpi4py runs on another MPI than $MPICC: $theirs"; return 1; }
    fi
}

install_packages() { pip install ase matplotlib rich; }

# wheel NAME KEY BUILD: installs the wheel that BUILD DIRECTORY made, from build/wheels if it was made with KEY before
wheel() {
    local kept; kept=$WHEELS/$1-$(printf '%s' "$2" | digest)
    if ! ls "$kept"/*.whl >/dev/null 2>&1; then
        local scratch=$PWD/build/scratch-$1
        rm -rf "$scratch"
        mkdir -p "$scratch" "$kept"
        ("$3" "$scratch")
        mv "$scratch"/*.whl "$kept"/
        rm -rf "$scratch"
    fi
    pip install --no-deps --force-reinstall "$kept"/*.whl
}
# Without build isolation: an isolated h5py build compiles an old mpi4py, which takes gigabytes and does not end.
# -O1: these packages are thin wrappers, and their build is most of the time that an installation takes.
BUILD_WHEEL="wheel --no-cache-dir --no-build-isolation --no-deps"

build_h5py() {
    export "$HDF5" HDF5_MPI=ON CC="$MPICC" CFLAGS="-O1 -g0 -w" DIST_EXTRA_CONFIG="$PWD/build/parallel.cfg"
    pip $BUILD_WHEEL --no-binary=h5py -w "$1" "h5py==$(version h5py)"
}
install_h5py() {
    wheel h5py "$STACK_KEY" build_h5py
    "$PY" -c 'import h5py; assert h5py.get_config().mpi, "this h5py has no MPI"; print(h5py.version.info)'
}

build_kernels() {
    local force=
    [ "$(cat build/kernels.flags 2>/dev/null)" = "$FLAGS" ] || force=--force
    rm -f build/kernels.flags
    "$PY" setup.py build_ext --inplace -j "$JOBS" $force
    printf '%s\n' "$FLAGS" >build/kernels.flags
}
install_ostwald() { OSTWALD_KERNELS=0 pip install --no-deps --no-build-isolation -e .; }

install_torch() {
    local extra=
    if [ -n "${OSTWALD_TORCH_INDEX:-}" ]; then
        extra="--extra-index-url $OSTWALD_TORCH_INDEX"
    fi
    pip install "torch==$(version torch)" $extra
}

build_petsc4py() {
    local release=$PETSC_VERSION  # 3.18.5 builds with the standard library's distutils only
    [ "$PETSC_VERSION" = 3.18.5 ] || release="${PETSC_VERSION%.*}.*"
    PETSC_DIR=$PETSC PETSC_ARCH=${PETSC_ARCH:-} SETUPTOOLS_USE_DISTUTILS=stdlib CFLAGS="-O1 -g0 -w" \
        pip $BUILD_WHEEL --no-binary=petsc4py -w "$1" "petsc4py==$release"
}
install_petsc4py() { wheel petsc4py "$STACK_KEY $PETSC $PETSC_VERSION ${PETSC_ARCH:-}" build_petsc4py; }

build_horovod() {
    local release source
    release=$(version horovod)
    source=$1/horovod-$release
    pip download --no-build-isolation --no-deps --no-binary=horovod -d "$1" "horovod==$release"
    tar -xzf "$source.tar.gz" -C "$1"
    # torch's headers need a newer C++ than the 14 that horovod asks for
    sed -i 's/CMAKE_CXX_STANDARD 14/CMAKE_CXX_STANDARD 20/' "$source"/CMakeLists.txt "$source"/horovod/torch/CMakeLists.txt
    sed -i "s/'RelWithDebInfo'/'Release'/; s/'-DCMAKE_BUILD_TYPE=' + config,/& '-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG -w',/" \
        "$source"/setup.py
    export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITH_MPI=1 HOROVOD_WITHOUT_GLOO=1 HOROVOD_WITHOUT_TENSORFLOW=1 \
        HOROVOD_WITHOUT_MXNET=1 MAKEFLAGS="-j$JOBS"
    pip $BUILD_WHEEL -w "$1" "$source"
}
install_horovod() {
    pip install cffi cloudpickle psutil pyyaml
    wheel horovod "$STACK_KEY $("$PY" -c 'import torch; print(torch.__version__)')" build_horovod
}

install_tools() { pip install pytest pytest-mpi pytest-timeout hypothesis scipy MDAnalysis ovito ruff; }

check() {
    pip check
    cat >build/check.py <<'END'
"""The packages that speak MPI work together: every rank writes a part of one file, all read the whole of it."""
import sys, tempfile
from mpi4py import MPI
import h5py, numpy
world = MPI.COMM_WORLD
path = world.bcast(tempfile.mktemp(suffix=".h5"))
with h5py.File(path, "w", driver="mpio", comm=world) as file:
    data = file.create_dataset("rank", (world.size, 1000), dtype="i4")
    with data.collective:
        data[world.rank] = world.rank
with h5py.File(path, "r", driver="mpio", comm=world) as file:
    assert (file["rank"][:] == numpy.arange(world.size)[:, None]).all()
if sys.argv[1] == "all":
    import petsc4py
    petsc4py.init([])
    from petsc4py import PETSc
    import torch, horovod.torch as horovod
    horovod.init()
    assert (horovod.rank(), horovod.size()) == (world.rank, world.size)
    vector = PETSc.Vec().createMPI(8 * world.size, comm=world)
    vector.set(2.0)
    assert abs(vector.sum() - 16 * world.size) < 1e-12
    assert float(horovod.allreduce(torch.ones(1), op=horovod.Sum)) == world.size
    horovod.shutdown()
world.Barrier()
if world.rank == 0:
    MPI.File.Delete(path)
    print(world.size, "ranks on", MPI.Get_library_version().split("\n")[0])
END
    if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
    if have sbatch && ! [ -n "${SLURM_JOB_ID:-}" ]; then
        echo "a login node: not run here. In a job: srun -n 2 $PY build/check.py $WHAT"
    else
        OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe OMP_NUM_THREADS=1 \
            timeout -k 5 180 mpirun -n 2 "$PY" -W ignore -m mpi4py build/check.py "$WHAT"
    fi
}

# ---------------------------------------------------------------- all of it

mkdir -p build
exec 9>build/install.lock
flock -n 9 || { say "another installation is under way here: waiting for it"; flock 9; }
BACKGROUND=()
behind() { set -m; step "$@" & set +m; BACKGROUND+=($!); }  # a process group of its own, so that all of it can be stopped
stop_background() { local job; for job in "${BACKGROUND[@]}"; do kill -- "-$job" 2>/dev/null || true; done; }
trap stop_background EXIT
trap 'printf "\nInterrupted. Give the same command again: the finished steps are kept.\n" >&2; exit 130' INT TERM

provide_system
if [ -n "$FULL" ] && "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then
    die "Horovod and PETSc 3.18 build with Python 3.11 only, this is $("$PYTHON" -V): set OSTWALD_PYTHON to a 3.11." \
        "Molecular dynamics alone installs with it: make install"
fi
printf '[build_ext]\nparallel = %d\n' "$JOBS" >build/parallel.cfg

MARCH=${OSTWALD_MARCH:-native}
# what the flags mean here: -march=native of another machine is another build
FLAGS="$MARCH ${OSTWALD_OPENMP:-1} $(g++ --version | head -n 1) $(g++ -march="$MARCH" -Q --help=target 2>&1 | digest) $PYTHON"
PYTHON_KEY="$PWD $PYTHON $("$PYTHON" -V)"
STACK_KEY="$("$PYTHON" -V) $(readlink -f "$(command -v "$MPICC")") $("$MPICC" -show 2>/dev/null) $HDF5 $(pkg-config --modversion hdf5-openmpi 2>/dev/null || true)"
pins() { local name; for name in "$@"; do version "$name"; done; }
NETWORK="look whether the package index can be reached (pip's own settings are used: proxy, index, certificates)."
COMPILE="look for the first error in the log; the MPI, HDF5 and PETSc must belong together (MPICC, HDF5_DIR, PETSC_DIR)."

step venv "$PYTHON_KEY" "is .venv in use by another process? Else give a complete Python: OSTWALD_PYTHON" create_venv
step build-tools "$(declare -f mpi_library) $PYTHON_KEY $STACK_KEY $(pins numpy cython pkgconfig setuptools wheel packaging pybind11 mpi4py)" "$NETWORK" install_build_tools
behind h5py "$PYTHON_KEY $STACK_KEY $(pins h5py numpy mpi4py) $(declare -f wheel build_h5py)" "$COMPILE" install_h5py
if [ -n "$FULL" ]; then
    behind petsc4py "$PYTHON_KEY $STACK_KEY $PETSC $PETSC_VERSION ${PETSC_ARCH:-} $(pins numpy) $(declare -f wheel build_petsc4py)" "$COMPILE" install_petsc4py
fi
step packages "$PYTHON_KEY $(pins ase matplotlib rich)" "$NETWORK" install_packages
step kernels "$FLAGS $(cat app/kernels/*.[ch]pp setup.py 2>/dev/null | digest)" "$COMPILE" build_kernels
step ostwald "$PYTHON_KEY $(cat setup.cfg setup.py pyproject.toml | digest)" "$COMPILE" install_ostwald
if [ -n "$FULL" ]; then
    step tools "$PYTHON_KEY $(pins pytest pytest-mpi pytest-timeout hypothesis scipy MDAnalysis ovito ruff)" "$NETWORK" install_tools
    step torch "$PYTHON_KEY $(pins torch) ${OSTWALD_TORCH_INDEX:-}" "$NETWORK" install_torch
    step horovod "$PYTHON_KEY $STACK_KEY $(pins horovod torch) $(declare -f wheel build_horovod)" "$COMPILE" install_horovod
fi
for job in "${BACKGROUND[@]}"; do wait "$job"; done
step "check-$WHAT" "$(cd "$STAMPS" && cat venv build-tools h5py ${FULL:+petsc4py torch horovod})" "the packages do not work together; see the log" check
