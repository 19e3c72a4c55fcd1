#!/bin/sh
# Starts writing and goes on until the machine ends: numbered records, each acknowledged only after fsync returned, beside
# a stream of other writes that keeps the disk busy.
printf 'Content-Type: text/plain\r\n\r\n'
[ -e /tmp/loading ] && exit 0
: > /tmp/loading
echo 0 > /tmp/acknowledged
(
  trap '' HUP
  exec < /dev/null > /dev/null 2>&1
  padding=$(printf '%0300d' 0)
  (while :; do busybox dd if=/dev/zero of="$DATA/witness/busy" bs=256k count=32 conv=fsync; done) &
  i=0
  while :; do
    i=$((i + 1))
    echo "record $i $padding" >> "$DATA/witness/journal"
    sync "$DATA/witness/journal"
    echo "$i" > /tmp/acknowledged.part
    mv /tmp/acknowledged.part /tmp/acknowledged
  done
) &
