#!/bin/sh
# Everything: keys by several tags, its secret, the file on the disk, what the node says of itself. An app may do so; the node may not.
ask() { wget -q -T 20 -O - "http://dstack-guest/$1"; }
printf 'Content-Type: application/json\r\n\r\n{"keys":{'
comma=
for tag in greeting witness Tag.with_all-sorts-0; do
  printf '%s"%s":"%s"' "$comma" "$tag" "$(ask "getkey/$tag")"
  comma=,
done
printf '},"secret":"%s","file":"%s","info":%s}\n' "$(cat /run/secrets/witness)" "$(cat "$DATA/witness/file.txt")" "$(ask info)"
