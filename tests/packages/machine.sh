#!/usr/bin/env bash
# Runs a script with a package on a copy of this machine's files, which is gone afterwards. In namespaces of its own.
#
#   machine.sh DIRECTORY SCRIPT PACKAGE
set -euo pipefail
mount --make-rprivate /
mount -t tmpfs none "$1"  # only in here
mkdir "$1/upper" "$1/work" "$1/root"
cp "$2" "$1/script"
# The mount hides nothing of the packages, which are elsewhere.
cp "$3" "$1/package.${3##*.}"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount -t tmpfs none "$1/root/run"
mount -t tmpfs none "$1/root/tmp"
mount --bind /dev "$1/root/dev"
mv "$1/script" "$1/package.${3##*.}" "$1/root/tmp"
ip link set lo up
exec chroot "$1/root" "/tmp/script" "/tmp/package.${3##*.}"
