# $1 is the number of versions that stay: 0 at a removal, 1 during an upgrade.
if [ "$1" -eq 0 ]; then
	systemctl --no-reload disable --now rempart.socket rempart.service rempart-control.service >/dev/null 2>&1 || true
fi
