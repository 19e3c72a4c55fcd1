#!/bin/sh
# One line each: who it is, its secrets as files, their values, what it can do to them, and where else a value could be.
printf 'Content-Type: text/plain\r\n\r\n'
printf 'user %s\n' "$(/bin/busybox id -u)"
for file in /run/secrets/*; do
  printf 'file %s %s value %s\n' "$file" "$(/bin/busybox stat -c '%a %u:%g' "$file")" "$(cat "$file")"
done
(echo x > /run/secrets/other) 2>/dev/null && echo 'wrote another'
(echo x >> /run/secrets/db) 2>/dev/null && echo 'wrote into it'
/bin/busybox chmod 644 /run/secrets/db 2>/dev/null && echo 'changed its mode'
/bin/busybox rm -f /run/secrets/db 2>/dev/null && echo 'removed it'
printf 'mount %s\n' "$(/bin/busybox grep ' /run/secrets ' /proc/mounts | cut -d' ' -f2-4)"
printf 'environment %s\n' "$(/bin/busybox env | /bin/busybox grep -c "$(cat /run/secrets/db)")"
