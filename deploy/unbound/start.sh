#!/bin/sh
# Starts Unbound in a container. Unbound keeps the root key current in /var/lib/unbound; a newer key of the package replaces it.
set -eu
cp --update /usr/share/dns/root.key /var/lib/unbound/root.key
exec unbound -d -p
