#!/bin/sh
# Makes the service's user and its directory for secrets. It neither enables nor starts the service.
set -e

if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers /usr/lib/sysusers.d/talaria.conf
fi
if command -v systemd-tmpfiles >/dev/null; then
    systemd-tmpfiles --create /usr/lib/tmpfiles.d/talaria.conf
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    if systemctl --quiet is-active talaria.service; then
        echo "talaria.service still runs the old version; systemctl restart talaria starts the new one."
    fi
fi
