#!/usr/bin/env bash
# Everything that a real GPU has to show, in one run of at most 8 minutes (LIMIT=480): x86-64, Python 3.12, no network.
#   1. Where pip works, in the repository's root:   bash benchmarks/gpu_day.sh prepare [FOLDER OF THE CLIPS]
#      makes .gpu/ (49 MB, ignored by git); the clips are those of the test data, ../shared/data/clips by default.
#   2. On the machine with the GPU, in a copy of the repository with .gpu/:   bash benchmarks/gpu_day.sh
#      Each step has its own limit; the table comes last, also in $OUT/table.md, the log in $OUT/log.txt.
#      Some steps again: LIMIT=120 STEPS="cold speed" bash benchmarks/gpu_day.sh
# Steps: the driver's answers, cold compile, tests/flow/test_cuda.py, three warm processes, leak, accuracy, speed by batch and
# solvers up to 1080p, kernel times, memcheck, racecheck, profile of the main kernel, video to jpg with 1, 4, 6 and 8
# processes: benchmarks/gpu_day.py has them. It leaves the card's settings alone (ncu --clock-control none).
# The machine has NumPy, SciPy, scikit-learn, Numba, OpenCV, joblib and pytest; the rest is carried in .gpu/.
# Rehearse it on the emulator after changes, where everything is small and .gpu/ is not needed:
#   CLIPS=../shared/data/clips PYTHON=.venv/bin/python tests/ptx_emulator/run.sh bash benchmarks/gpu_day.sh
if [ "${1:-}" = prepare ]; then
set -euo pipefail
clips=${2:-${IDT_TEST_DATA:-../shared/data}/clips}
grep -qx '/.gpu/' .git/info/exclude || echo '/.gpu/' >> .git/info/exclude
rm -rf .gpu && mkdir -p .gpu/clips
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
get() { python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    $(printf -- '--platform %s ' manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_24_x86_64 manylinux_2_17_x86_64 \
      manylinux2014_x86_64 manylinux_2_12_x86_64 manylinux2010_x86_64 manylinux1_x86_64) -d "$work" "$@"; }
# one version of each; numba-cuda is carried so that the version is ours, not the machine's (it goes first on PYTHONPATH)
get numba-cuda==0.30.4 av==18.1.0 pebble==5.2.3 cyclopts==5.5.2 rich-rst==2.2.0 docstring-parser==0.18.0 \
    filelock==4.3.1 lazy_loader==0.6
get nvidia-nvvm==13.0.88     # LTO-IR of a newer NVVM than the machine's nvJitLink (13.0, with torch cu130) would not link
mkdir "$work/site" "$work/cuda"
for wheel in "$work"/*.whl; do case $wheel in *nvvm*) ;; *) unzip -q "$wheel" -d "$work/site";; esac; done
unzip -q "$work"/nvidia_nvvm*.whl 'nvidia/cu13/lib/libnvvm.so.4' 'nvidia/cu13/nvvm/libdevice/*' -d "$work/n"
mkdir -p "$work/cuda/nvvm/lib64" "$work/cuda/nvvm/libdevice"
cp "$work/n/nvidia/cu13/lib/libnvvm.so.4" "$work/cuda/nvvm/lib64/"
ln -s libnvvm.so.4 "$work/cuda/nvvm/lib64/libnvvm.so"
cp "$work/n/nvidia/cu13/nvvm/libdevice/libdevice.10.bc" "$work/cuda/nvvm/libdevice/"
tar cf - -C "$work" site | xz -T0 -6 > .gpu/site.tar.xz
tar cf - -C "$work" cuda | xz -T0 -6 > .gpu/nvvm.tar.xz
cp "$clips"/bikes_320x240_80.avi "$clips"/v_Bowling_g01_c01.avi .gpu/clips/
chmod -R u+w .gpu
du -ch .gpu/* | tail -6
echo "now copy the repository with .gpu/ to the machine and run: bash benchmarks/gpu_day.sh"
exit
fi

set -uo pipefail
export PYTHONUNBUFFERED=1 OUT=${OUT:-/tmp/gpu_day.out} PYTHONDONTWRITEBYTECODE=1
mkdir -p "$OUT"; rm -f "$OUT/table.md"; exec > >(tee "$OUT/log.txt") 2>&1
began=$SECONDS; limit=${LIMIT:-480}
left() { echo $((limit - (SECONDS - began))); }
step() { # step NAME SECONDS COMMAND...: never longer than what is left
  local name=$1 most=$2; shift 2; local rest
  [[ -n ${STEPS:-} && " $STEPS " != *" $name "* ]] && return
  rest=$(left); ((rest < 8)) && { echo "### $name: no time left"; return; }
  ((most > rest)) && most=$rest
  echo "### $name (at $((SECONDS - began)) s, at most $most s)"; timeout -k 5 "$most" "$@"; local rc=$?
  echo "### $name: rc $rc, at $((SECONDS - began)) s"; RC+=("$name=$rc"); }
RC=(); repo=$PWD; CLIPS=$(realpath "${CLIPS:-.gpu/clips}"); export CLIPS
python=${PYTHON:-python3}; [[ $python == */* ]] && python=$(realpath -s "$python")
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm --format=csv 2>&1 | tail -2
nproc; "$python" -V

# The package as it is installed: idt with flow, encoding and cli inside, no build needed
T=${T:-/tmp/gpu_day}; rm -rf "$T"; mkdir -p "$T/pkg"
cp -r idt "$T/pkg/idt" && cp -r flow encoding cli "$T/pkg/idt/"
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' idt/__init__.py)
mkdir -p "$T/pkg/densetraj-${version:-0}.dist-info"
printf 'Metadata-Version: 2.1\nName: densetraj\nVersion: %s\n' "${version:-0}" > "$T/pkg/densetraj-${version:-0}.dist-info/METADATA"
for archive in "$repo"/.gpu/*.tar.xz; do [ -e "$archive" ] && tar xJf "$archive" -C "$T"; done   # none: what Python has
export PYTHONPATH=$T/site:$T/pkg${PYTHONPATH:+:$PYTHONPATH} NUMBA_CACHE_DIR=$T/kernels IDT_TEST_DATA=$T/none
cd "$T"   # or ./idt, which lacks idt.flow, would be imported
ready='from idt.flow import _tvl1_cuda as kernels; kernels.check(0)
import numba_cuda; print("numba-cuda", numba_cuda.__version__, numba_cuda.__file__, kernels.cuda.gpus[0].compute_capability)'
# NVVM and nvJitLink must be of one CUDA: first what is there, then the toolkit, then ours
if ! timeout 60 "$python" -c "$ready"; then
  for home in /usr/local/cuda "$T/cuda"; do
    echo "--- again with CUDA_HOME=$home"; export CUDA_HOME=$home CUDA_PATH=$home
    timeout 60 "$python" -c "$ready" && break
  done
fi
"$python" -m pip list 2>/dev/null | grep -i -E '^(numba|numpy|llvmlite|cuda|nvidia-(cuda|nvjit|nvvm)|opencv|torch |av )'

p="$python $repo/benchmarks/gpu_day.py"
step driver 25 $p driver                       # what the emulator had to assume of the driver
step cold 60 $p cold                           # all kernels compiled for this chip, one pair, against the CPU
step tests 70 "$python" -m pytest -q -p no:cacheprovider -rfE --tb=line --timeout 60 -W default \
     -W error::pytest.PytestUnraisableExceptionWarning --rootdir "$repo" -c "$repo/pyproject.toml" "$repo/tests/flow/test_cuda.py"
for n in 1 2 3; do step "warm$n" 20 $p warm; done   # a new process with warm kernels: two threads load them at once
step leak 25 $p leak                           # memory that many short sequences leave behind
step accuracy 30 $p accuracy
step speed 110 $p speed
step kernels 40 $p kernels                     # time of each kernel and of an empty launch, by events
if command -v compute-sanitizer > /dev/null; then
  step memcheck 45 compute-sanitizer --tool memcheck --error-exitcode 9 $p tiny
  step racecheck 45 compute-sanitizer --tool racecheck --error-exitcode 9 $p tiny
fi
command -v ncu > /dev/null && step ncu 45 ncu --clock-control none -k regex:relax --launch-skip 12 --launch-count 2 \
  --section SpeedOfLight --section Occupancy --section LaunchStats --section WarpStateStats --section MemoryWorkloadAnalysis $p profile
step files 80 $p files                         # video to jpg: 1, 4, 6, 8 processes on the one GPU
echo "### ${RC[*]}"; echo "### total $((SECONDS - began)) s"
[ -f "$OUT/table.md" ] && cat "$OUT/table.md"
