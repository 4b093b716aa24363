# Shared by the scripts that run after an installation from a package.

# port_is_taken reports whether another program answers DNS on an address of the shipped settings, or on every address. In /proc/net, 0035 is port 53, and
# 0100007F is 127.0.0.1. systemd-resolved, on 127.0.0.53, is not in the way.
port_is_taken() {
	grep -qsE ': (0100007F|0{8}|0{32}|0{24}01000000):0035 ' /proc/net/udp /proc/net/udp6
}

explain_taken_port() {
	echo 'rempart: not started, because another program uses port 53 of this machine. Set REMPART_LISTEN in' >&2
	echo 'rempart: /etc/rempart/rempart.env to an address and port that are free, then run: systemctl start rempart' >&2
}
