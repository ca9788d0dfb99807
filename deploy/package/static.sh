#!/bin/sh
# Builds the static binary of a release, in the top directory of the sources. The image does, and `make binary`.
#
#   sh deploy/package/static.sh [TARGET]
#
# TARGET is a name of Rust's, such as aarch64-unknown-linux-gnu; by default the machine's own. It is in CARGO_TARGET_DIR, in
# TARGET/release/talaria. For another architecture it needs the target's standard library (rustup target add TARGET), and of Debian a
# compiler and that architecture's C library, such as gcc-aarch64-linux-gnu and libc6-dev:arm64.
set -eu

host=$(rustc --version --verbose | sed -n 's/^host: //p')
target=${1:-$host}
case $target in
*-unknown-linux-gnu) ;;
*)
    echo "static.sh: a static binary is made for Linux with glibc, and not for $target" >&2
    exit 1
    ;;
esac
if [ "$target" != "$host" ]; then
    export "CARGO_TARGET_$(echo "$target" | tr 'a-z-' 'A-Z_')_LINKER=${target%%-*}-linux-gnu-gcc"
fi

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
# Proc macros and build scripts are for the machine that builds, and cannot be static: naming the target, even where it is
# the machine's own, keeps these flags from them. A panic says in which file it arose: with the machine's own paths, the same
# sources in another directory would give another binary.
separator=$(printf '\037')
CARGO_ENCODED_RUSTFLAGS=-Ctarget-feature=+crt-static
for mapped in "$PWD=/talaria" "${CARGO_HOME:-$HOME/.cargo}=/cargo" "$CARGO_TARGET_DIR=/target"; do
    CARGO_ENCODED_RUSTFLAGS=$CARGO_ENCODED_RUSTFLAGS$separator--remap-path-prefix=$mapped
done
export CARGO_ENCODED_RUSTFLAGS
# A tenth less of CPU time at work, for a quarter more to build. `make bench` measures the build without it.
export CARGO_PROFILE_RELEASE_LTO=thin CARGO_PROFILE_RELEASE_CODEGEN_UNITS=4
exec "${CARGO:-cargo}" build --release --locked --package talaria --target "$target"
