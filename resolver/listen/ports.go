package listen

// neverClients are the UDP ports from which no query is sent: 0, to which nobody can answer, and the ports of services that answer every packet (echo, discard,
// daytime, qotd, chargen). With a forged source, such a service would answer our answer, without end.
const neverClients = 1<<0 | 1<<7 | 1<<9 | 1<<13 | 1<<17 | 1<<19

// ignoredPorts is a set of UDP ports to which nothing is answered: one bit per port, 8 KiB. It never changes.
type ignoredPorts [1 << 16 / 64]uint64

// newIgnoredPorts returns the set of neverClients and further ports.
func newIgnoredPorts(further []uint16) *ignoredPorts {
	ports := &ignoredPorts{neverClients}
	for _, p := range further {
		ports[p/64] |= 1 << (p % 64)
	}
	return ports
}

// has reports whether nothing is answered to that port.
func (p *ignoredPorts) has(port uint16) bool { return p[port/64]>>(port%64)&1 != 0 }
