#!/usr/bin/env bash
# Installs a package, does what the configuration's head says, and removes the package. machine.sh runs it.
set -euo pipefail
package=$1
secrets=/etc/talaria/secrets

fail() {
    echo "test-packages: $package: $*" >&2
    exit 1
}

case $package in
*.deb)
    install() { dpkg --install "$package"; }
    remove() { dpkg --remove talaria; }
    ;;
*.rpm)
    # This machine's own packages are not in rpm's list.
    install() { rpm --initdb && rpm --install --nodeps --nosignature "$package"; }
    remove() { rpm --erase talaria; }
    ;;
esac

install
[ "$(stat --format '%U %a' $secrets)" = 'talaria 700' ] || fail "$secrets is not the service's alone"
cd /
as_service() { runuser --user talaria -- "$@"; }
as_service talaria secrets
as_service talaria check
[ "$(stat --format '%U %a' $secrets/me-hermes)" = 'talaria 600' ] || fail "others can read a secret"

# systemd would make the directory.
command install --directory --owner talaria --group talaria --mode 700 /var/lib/talaria
as_service talaria up 2>/tmp/log &
up=$!
until as_service talaria healthcheck 2>/dev/null; do
    kill -0 $up 2>/dev/null || fail "the service ended: $(tail -n 3 /tmp/log)"
    sleep 0.1
done
kill $up
wait $up || true

echo '# changed' >>/etc/talaria/talaria.yaml
remove
[ ! -e /usr/bin/talaria ] && [ ! -e /usr/lib/systemd/system/talaria.service ] || fail "it leaves files"
[ -s $secrets/me-hermes ] && [ -d /var/lib/talaria ] || fail "it removes what the service wrote"
