if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	deb-systemd-invoke stop rempart.socket rempart.service rempart-control.service >/dev/null || true
fi
