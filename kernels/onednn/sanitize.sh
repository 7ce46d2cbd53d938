#!/usr/bin/env bash
# The extension under AddressSanitizer, on every shape of its tests: fails at the first bad access.
# Arguments go to pytest. oneDNN itself and the code that it generates are not instrumented.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
with=(--with "setuptools>=77" --with onednn-devel-cpu-gomp==2023.2.0)
CXXFLAGS="-fsanitize=address -fno-omit-frame-pointer" LDFLAGS=-fsanitize=address \
  uv run "${with[@]}" python setup.py -q build_ext --force --build-lib "$out" --build-temp "$out/temp"
mkdir -p "$out/jconv_kernels/onednn"
cp kernels/*.py "$out/jconv_kernels/"
cp kernels/onednn/*.py "$out/jconv_kernels/onednn/"

# Leaks are not looked for: Python and XLA keep what they have until the process ends.
uv run env PYTHONPATH="$out:$PWD" PYTHONMALLOC=malloc \
  ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0 \
  LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)" \
  python -m pytest -n 0 -q tests/kernels/onednn "$@"
