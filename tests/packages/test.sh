#!/usr/bin/env bash
# Installs what `make packages` makes, and runs it. `make test-packages` runs this.
#
#   test.sh PACKAGES PACKAGES_AGAIN VERSION
#
# 1. Two builds of the same binary have the same bytes.
# 2. The archive's binary runs, with RUNNER where that is set, and the archive has what it promises.
# 3. The .deb and the .rpm have this binary, and say for which architecture it is.
# 4. systemd takes the unit.
# 5. install.sh installs from a server, and refuses a wrong checksum, a platform without archive, and plain HTTP elsewhere.
# 6. As root: the .deb and the .rpm, each on a copy of this machine's files (installed.sh).
#
# Packages for another architecture than this machine's are not installed: it ends after the fourth.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$here/../..
packages=$1
again=$2
version=$3
work=$(mktemp -d)
server=
trap 'set +e; [ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT

fail() {
    echo "test-packages: $*" >&2
    exit 1
}

echo "== two builds are the same"
diff "$packages/SHA256SUMS" "$again/SHA256SUMS"
(cd "$packages" && sha256sum --check --quiet SHA256SUMS)

echo "== the archive"
archive=$(echo "$packages"/talaria-*.tar.gz)
arch=${archive##*-linux-}
arch=${arch%.tar.gz}
tar --extract --gzip --file "$archive" --directory "$work"
unpacked=$(echo "$work"/talaria-*)
read -ra runner <<<"${RUNNER:-}"
"${runner[@]}" "$unpacked/talaria" --version | grep -F "talaria $version"
for file in LICENSE THIRD-PARTY-NOTICES README.md CHANGELOG.md talaria.example.yaml \
    completions/talaria.bash completions/_talaria completions/talaria.fish man/talaria.1 man/talaria-up.1; do
    [ -s "$unpacked/$file" ] || fail "the archive has no $file"
done

echo "== for $arch"
case $arch in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*) fail "$arch is not known" ;;
esac
deb=$packages/talaria_$version-1_$arch.deb
rpm=$packages/talaria-$version-1.$machine.rpm
said=$(dpkg-deb --field "$deb" Architecture)
[ "$said" = "$arch" ] || fail "the .deb is for $said"
said=$(rpm --query --package --nosignature --queryformat '%{ARCH}' "$rpm")
[ "$said" = "$machine" ] || fail "the .rpm is for $said"
dpkg-deb --fsys-tarfile "$deb" | tar --extract --to-stdout ./usr/bin/talaria | cmp - "$unpacked/talaria"
sum=$(sha256sum <"$unpacked/talaria")
rpm --query --package --nosignature --queryformat '[%{FILENAMES} %{FILEDIGESTS}\n]' "$rpm" |
    grep -Fx >/dev/null "/usr/bin/talaria ${sum%% *}" || fail "the .rpm has another binary than the archive"

echo "== the unit"
# It looks for the program that the unit starts.
sed "s|/usr/bin/talaria|$unpacked/talaria|" "$top/deploy/package/talaria.service" >"$work/talaria.service"
said=$(systemd-analyze verify --man=no "$work/talaria.service" 2>&1) || fail "the unit is not valid: $said"
# A key that it does not know is a warning alone.
[[ $said != *"$work/talaria.service"* ]] || fail "the unit: $said"
# From 0, safe, to 100.
systemd-analyze security --offline=true --threshold=20 --no-pager "$work/talaria.service" >"$work/security" ||
    fail "the unit is not as hardened as it was: $(tail -n 2 "$work/security")"
tail -n 1 "$work/security"

if [ "$machine" != "$(uname -m)" ]; then
    echo "== nothing for $arch is installed on $(uname -m)"
    exit
fi

echo "== install.sh"
mkdir "$work/served" "$work/home"
cp "$packages"/* "$work/served"
# On a free port, which it prints.
python3 -u - "$work/served" >"$work/port" <<'SERVER' &
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
handler.func.log_message = lambda *_: None
server = http.server.HTTPServer(("127.0.0.1", 0), handler)
print(server.server_port)
server.serve_forever()
SERVER
server=$!
until [ -s "$work/port" ]; do kill -0 "$server"; sleep 0.1; done
url=http://127.0.0.1:$(cat "$work/port")

install_from() {
    TALARIA_BASE_URL=$1 TALARIA_INSTALL_DIR=$work/home/bin sh "$top/deploy/package/install.sh" 2>&1
}
refused() {
    if said=$(install_from "$1"); then fail "install.sh installs although it should say: $2"; fi
    [[ $said == *"$2"* ]] || fail "install.sh says: $said; and not: $2"
    [ ! -e "$work/home/bin/talaria" ] || fail "install.sh refuses and installs all the same"
}
install_from "$url/"
"$work/home/bin/talaria" --version | grep -qF "talaria $version"
rm "$work/home/bin/talaria"
refused '' 'set TALARIA_BASE_URL'
refused http://192.0.2.1 'has to begin with https://'
refused "$url/nothing" 'cannot download'
sed -i 's/^......../00000000/' "$work/served/SHA256SUMS"
refused "$url" 'the checksum of talaria-'
echo >"$work/served/SHA256SUMS"
refused "$url" 'has no archive for'

if [ "$(id -u)" != 0 ]; then
    echo "== not root: the .deb and the .rpm are not installed"
    exit
fi
# A machine of their own: this one's files below, changes in memory, no network.
for kind in deb rpm; do
    echo "== the .$kind"
    unshare --mount --net --pid --fork --kill-child "$here/machine.sh" "$work" "$here/installed.sh" "$packages"/talaria*.$kind
done
