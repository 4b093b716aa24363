case "$1" in
configure | abort-upgrade | abort-deconfigure | abort-remove) ;;
*) exit 0 ;;
esac

systemd-sysusers rempart.conf

# A unit that an administrator disabled stays disabled.
if deb-systemd-helper --quiet was-enabled rempart.service; then
	deb-systemd-helper enable rempart.service >/dev/null || true
else
	deb-systemd-helper update-state rempart.service >/dev/null || true
fi

# Without a running systemd, in a container or a chroot, nothing is started.
if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload >/dev/null || true
	if [ -n "$2" ]; then
		deb-systemd-invoke restart rempart.service >/dev/null || true
		if systemctl is-active --quiet rempart-control.service; then
			deb-systemd-invoke restart rempart-control.service >/dev/null || true
		fi
	elif port_is_taken; then
		explain_taken_port
	else
		deb-systemd-invoke start rempart.service >/dev/null || true
	fi
fi
