if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload >/dev/null || true
fi
if [ "$1" = purge ]; then
	deb-systemd-helper purge rempart.socket rempart.service rempart-control.service >/dev/null || true
	rm -rf /var/lib/rempart
	# The keys that sign the journal exist nowhere else.
	if [ -e /var/lib/rempart-control ]; then
		echo 'rempart: the keys and the journal of control stay in /var/lib/rempart-control: remove the folder if nobody needs them' >&2
	fi
fi
