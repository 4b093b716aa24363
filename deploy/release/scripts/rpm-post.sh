# $1 is the number of installed versions: 1 at the first installation, 2 during an upgrade.
systemd-sysusers rempart.conf || true
if [ "$1" -eq 1 ]; then
	systemctl --no-reload enable rempart.service >/dev/null 2>&1 || true
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	if [ "$1" -eq 1 ]; then
		if port_is_taken; then
			explain_taken_port
		else
			systemctl start rempart.service || true
		fi
	fi
fi
