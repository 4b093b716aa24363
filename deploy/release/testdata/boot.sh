#!/bin/sh
# Boots systemd as PID 1 of the system in the folder $1, in namespaces of its own: processes, mounts, network, control groups. It needs root, the version 2 of
# control groups, and no container manager. It ends when systemd ends, or by SIGKILL. "nsenter -t PID -a COMMAND" runs a command inside, where PID is the
# process "systemd" below this one.
set -eu
root=$(realpath "$1")

# systemd gets a control group of its own, on the version 2 hierarchy wherever that is mounted.
group=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)/rempart-boot-$$
mkdir "$group"
echo $$ >"$group/cgroup.procs"

exec unshare --fork --kill-child --pid --mount --uts --ipc --net --cgroup sh -eu -c '
  root=$1
  mount --make-rprivate /
  mount --bind "$root" "$root"
  cd "$root"
  mkdir -p old
  mount -t proc proc proc
  mount -t sysfs -o ro sysfs sys
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  mount -t tmpfs -o mode=755 tmpfs run
  mount -t tmpfs -o mode=755 tmpfs dev
  mkdir dev/pts dev/shm
  mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
  mount -t tmpfs tmpfs dev/shm
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  for device in null zero full random urandom tty; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
  done
  ip link set lo up
  pivot_root . old
  umount -l /old
  exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
' sh "$root"
