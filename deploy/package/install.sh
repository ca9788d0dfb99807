#!/bin/sh
# Installs the binary of Talaria's release: finds the platform, downloads the archive, verifies its checksum.
#
#   curl -fsSL BASE_URL/install.sh | sh
#
# TALARIA_BASE_URL     where the files of a release are; each release's own install.sh knows it
# TALARIA_INSTALL_DIR  where the binary goes: /usr/local/bin for root, otherwise ~/.local/bin
set -eu

# The release writes its address here.
release_url=

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

platform() {
    case $(uname -s) in
    Linux) os=linux ;;
    Darwin) os=macos ;;
    *) fail "there is no archive for $(uname -s); build it from source with cargo" ;;
    esac
    case $(uname -m) in
    x86_64 | amd64) arch=amd64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) fail "there is no archive for $(uname -m); build it from source with cargo" ;;
    esac
    if [ "$os-$arch" = macos-amd64 ]; then
        fail "there is no archive for Macs with an Intel processor; build it from source with cargo"
    fi
    echo "$os-$arch"
}

download() {
    if command -v curl >/dev/null; then
        curl --fail --silent --show-error --location --output "$2" "$1" || fail "cannot download $1"
    elif command -v wget >/dev/null; then
        wget --quiet --output-document="$2" "$1" || fail "cannot download $1"
    else
        fail "neither curl nor wget is installed"
    fi
}

checksum() {
    if command -v sha256sum >/dev/null; then
        sha256sum "$1"
    elif command -v shasum >/dev/null; then
        shasum --algorithm 256 "$1"
    else
        fail "neither sha256sum nor shasum is installed, so the download cannot be verified"
    fi | cut -d ' ' -f 1
}

# Called in the last line: of a script that was cut off on its way nothing runs.
main() {
    base=${TALARIA_BASE_URL:-$release_url}
    base=${base%/}
    case $base in
    https://* | http://127.0.0.1:* | http://localhost:*) ;;
    '') fail "set TALARIA_BASE_URL to where the files of a release are" ;;
    *) fail "TALARIA_BASE_URL has to begin with https://, and is $base" ;;
    esac
    if [ -n "${TALARIA_INSTALL_DIR:-}" ]; then
        directory=$TALARIA_INSTALL_DIR
    elif [ "$(id -u)" = 0 ]; then
        directory=/usr/local/bin
    else
        directory=$HOME/.local/bin
    fi
    platform=$(platform)

    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' INT TERM
    download "$base/SHA256SUMS" "$work/SHA256SUMS"
    # The list of checksums names the archive, and so its version.
    line=$(grep -E "^[0-9a-f]{64}  talaria-[0-9A-Za-z.+-]+-$platform\.tar\.gz\$" "$work/SHA256SUMS" | head -n 1)
    [ -n "$line" ] || fail "this release has no archive for $platform"
    archive=${line#*  }
    download "$base/$archive" "$work/$archive"
    [ "$(checksum "$work/$archive")" = "${line%%  *}" ] ||
        fail "the checksum of $archive is not the one in SHA256SUMS; nothing was installed"

    tar -xzf "$work/$archive" -C "$work"
    mkdir -p "$directory" 2>/dev/null && [ -w "$directory" ] ||
        fail "cannot write in $directory; set TALARIA_INSTALL_DIR"
    # In one step, so that a running binary is not written into.
    cp "$work/${archive%.tar.gz}/talaria" "$directory/.talaria.new"
    chmod 755 "$directory/.talaria.new"
    mv "$directory/.talaria.new" "$directory/talaria"
    echo "$("$directory/talaria" --version) is in $directory"
    case :$PATH: in
    *:"$directory":*) ;;
    *) echo "Add $directory to your PATH." ;;
    esac
}

main
