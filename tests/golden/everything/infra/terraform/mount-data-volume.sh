#!/usr/bin/env bash
# Mounts the volume for data where Docker keeps its volumes, now and at every boot. Can be run again.
#
# Usage: mount-data-volume DEVICE
set -euo pipefail

device=${1:?is missing: which device}
data=/srv/data
volumes=/var/lib/docker/volumes

# The provider attaches it while the server already boots.
for _ in {1..120}; do
  [ ! -b "$device" ] || break
  sleep 5
done
[ -b "$device" ] || { echo "mount-data-volume: $device did not appear within ten minutes" >&2; exit 1; }

# Only what is certainly empty is formatted: a volume that was used before keeps what it holds.
status=0
blkid -p "$device" >/dev/null || status=$?
case $status in
  0) ;;
  2) mkfs.ext4 -q "$device" ;;
  *) echo "mount-data-volume: it is not clear what $device holds (blkid: $status), so it is left alone" >&2; exit 1 ;;
esac

mkdir -p "$data" "$volumes"
grep -q " $data " /etc/fstab || printf '%s %s ext4 defaults,nofail,discard 0 2\n' "$device" "$data" >>/etc/fstab
grep -q " $volumes " /etc/fstab ||
  printf '%s %s none bind,nofail,x-systemd.requires-mounts-for=%s 0 0\n' "$data/docker-volumes" "$volumes" "$data" >>/etc/fstab
systemctl daemon-reload
mountpoint -q "$data" || mount "$data"
install -d -m 0701 "$data/docker-volumes"
mountpoint -q "$volumes" || mount "$volumes"
