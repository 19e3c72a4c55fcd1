#!/bin/sh
# etcdctl of the locked packages, at a store that `npx dstack kv start --dev` runs, with its certificates.
#   KV_DATA      the store's folder (.state/kv)     KV_ENDPOINT  https://127.0.0.1:2379, or http://… for a store of --plain
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
data=${KV_DATA:-$here/.state/kv}
endpoint=${KV_ENDPOINT:-https://127.0.0.1:2379}
root=$here/build/tool-root
[ -x "$root/usr/bin/etcdctl" ] || root=$here/.cache/kv-tools
[ -x "$root/usr/bin/etcdctl" ] || { echo "etcdctl.sh: no etcdctl yet: npx dstack kv start --dev fetches it" >&2; exit 1; }
case $endpoint in
http://*) ;;
https://*)
  [ -r "$data/certs/user0_privk.pem" ] || {
    echo "etcdctl.sh: no certificates in $data/certs: npx dstack kv start --dev makes them; KV_DATA names another folder" >&2
    exit 1
  }
  set -- --cacert="$data/certs/authority_cert.pem" --cert="$data/certs/user0_cert.pem" --key="$data/certs/user0_privk.pem" "$@"
  ;;
*)
  echo "etcdctl.sh: KV_ENDPOINT is a URL, http://HOST:PORT or https://HOST:PORT, not $endpoint" >&2
  exit 2
  ;;
esac
export ETCDCTL_API=3
exec "$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" --argv0 etcdctl \
  "$root/usr/bin/etcdctl" --endpoints="$endpoint" "$@"
