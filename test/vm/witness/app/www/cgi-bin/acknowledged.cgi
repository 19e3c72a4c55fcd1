#!/bin/sh
# The number of the last record that is safe on the disk.
printf 'Content-Type: text/plain\r\n\r\n%s\n' "$(cat /tmp/acknowledged)"
