#!/usr/bin/env bash
# The device is aarch64: the wheel, its tests and its embeddings in a Debian root of that architecture, under qemu's
# user-mode emulation. As root:  tests/packaging/aarch64.sh [ROOT]  (default: build/aarch64, kept and used again).
# MODELS="a.onnx b.onnx" compares the embeddings of these files with this machine's as well as those of a tiny model.
# Needs debootstrap, qemu-user (10 runs ONNX Runtime 1.32; 7.2 ends it at import), and a Python with the extras
# `cpu,export,dev` (PYTHON, default .venv's).
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "${1:-build/aarch64}"
root="$(cd "${1:-build/aarch64}" && pwd)"
python="${PYTHON:-.venv/bin/python}"
mirror="${MIRROR:-http://deb.debian.org/debian}"
packages='onnx hypothesis pytest pytest-xdist pyyaml'
tests="${TESTS:-tests/core tests/data tests/embedder tests/engines tests/gallery tests/scoring tests/test_pair_head.py}"

fail() { echo "aarch64: $1" >&2; exit 2; }
[ "$(id -u)" = 0 ] || fail "run it as root: it makes a root folder and enters it"
command -v debootstrap >/dev/null || fail "debootstrap is missing: apt install debootstrap"
[ "$(uname -m)" = aarch64 ] || [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] \
  || fail "nothing runs aarch64 programs here: apt install qemu-user-binfmt"

inside() {
  chroot "$root" /usr/bin/env -i PATH=/venv/bin:/usr/bin:/bin HOME=/root LANG=C.UTF-8 CI=true OMP_NUM_THREADS=1 "$@"
}

if ! [ -e "$root/.made" ]; then
  echo "== a Debian root in $root"
  debootstrap --arch=arm64 --variant=minbase --include=python3,python3-venv bookworm "$root" "$mirror" >"$root.log" \
    || fail "debootstrap failed: see $root.log"
  touch "$root/.made"
fi
for folder in proc sys dev; do
  mountpoint -q "$root/$folder" || mount --rbind --make-rslave "/$folder" "$root/$folder"
done
trap 'for folder in proc sys dev; do umount -R -l "$root/$folder"; done' EXIT

echo "== the wheel, and what it depends on, fetched here and installed there"
minor="$(inside python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
rm -rf "$root/wheels" "$root/venv" "$root/work"
mkdir -p "$root/wheels" "$root/work"
"$python" -m build --quiet --wheel --outdir "$root/wheels" .
wheel="$(echo "$root"/wheels/reid_edge-*.whl)"
# shellcheck disable=SC2086
"$python" -m pip download --quiet --disable-pip-version-check --no-cache-dir --dest "$root/wheels" --only-binary=:all: --python-version "$minor" \
  --platform manylinux_2_36_aarch64 --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 \
  --platform manylinux2014_aarch64 "$wheel[cpu,parquet]" $packages
inside python3 -m venv /venv
# shellcheck disable=SC2086
inside pip install --quiet --no-index --find-links /wheels "/wheels/$(basename "$wheel")[cpu,parquet]" $packages
inside python -c 'import platform, reid_edge; print(platform.machine(), platform.python_version(), reid_edge.__version__)'

inside python -c 'import onnxruntime' || fail "this qemu does not run ONNX Runtime: take a newer one (10 does)"

echo "== embeddings there and here"
cp tests/packaging/embed_files.py "$root/work"
"$python" -m reid_edge data synthesize "$root/work/drawn" --identities 2 --test-identities 2 --cameras 2 >/dev/null
PYTHONPATH=tests "$python" -c 'import sys; from pathlib import Path; from helpers.tiny_onnx import write_tiny_model
write_tiny_model(Path(sys.argv[1]))' "$root/work/tiny.onnx"
for model in ${MODELS:-}; do cp "$model" "$root/work"; done
for model in "$root"/work/*.onnx; do
  file="$(basename "$model")"
  "$python" tests/packaging/embed_files.py "$model" "$root/work/drawn" "$root/work/${file%.onnx}.npy"
  inside python /work/embed_files.py "/work/$file" /work/drawn /work/there.npy --like "/work/${file%.onnx}.npy"
done

echo "== its tests"
cp -r tests docs examples conftest.py pyproject.toml "$root/work"
# shellcheck disable=SC2086
inside /bin/sh -c "cd /work && python -m pytest -q -W default --no-header -r f -n ${JOBS:-2} --dist worksteal \
  -p no:cacheprovider -o pythonpath=tests $tests"
