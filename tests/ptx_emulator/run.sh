#!/usr/bin/env bash
# Runs a program with a stand-in for the CUDA driver, so that its kernels execute on the CPU: run.sh PYTHON ARGS...
# Builds itself with g++ on first use, into $EMULATOR_BUILD, by default a folder of the user's cache.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${EMULATOR_BUILD:-${XDG_CACHE_HOME:-$HOME/.cache}/ptx_emulator}
mkdir -p "$build/lib" "$build/modules" "$build/kernels"
if [ ! -e "$build/lib/libcuda.so.1" ] || [ "$here/fakecuda.cpp" -nt "$build/lib/libcuda.so.1" ]; then
    g++ -O2 -std=c++17 -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$build/lib/libcuda.so.1" "$here/fakecuda.cpp" -I "$here" \
        -ldl -lpthread
fi
export LD_LIBRARY_PATH="$build/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PYTHONPATH="$here/hook${PYTHONPATH:+:$PYTHONPATH}"
export FAKE_MODULES=$build/modules NUMBA_CACHE_DIR=${NUMBA_CACHE_DIR:-$build/kernels}
exec "$@"
