#!/bin/sh
# Writes until the disk takes no more, says what the system said, and makes room again.
printf 'Content-Type: text/plain\r\n\r\n'
busybox dd if=/dev/zero of="$DATA/witness/filler" bs=1M 2>&1 && echo 'it never ended'
busybox rm -f "$DATA/witness/filler"
