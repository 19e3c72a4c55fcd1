#!/bin/sh
# Every record as the disk has it.
printf 'Content-Type: text/plain\r\n\r\n'
exec cat "$DATA/witness/journal"
