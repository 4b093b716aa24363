// Package machine reads what the kernel says of this machine: sockets, and the programs that hold them (proc(5)).
package machine

import (
	"bufio"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Machine is this machine. Tests use a folder in place of the root.
type Machine struct{ Root string }

// Number returns the number in a file.
func (m Machine) Number(path string) (int, error) {
	text, err := os.ReadFile(filepath.Join(m.Root, path))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// Socket is a bound UDP socket or a listening TCP socket.
type Socket struct {
	Network string // "udp" or "tcp"
	At      netip.AddrPort
	inode   string
	Drops   uint64 // datagrams that were dropped because the socket's buffer was full
}

// Sockets returns the sockets of this machine that are bound to a port. The error is that of the last file that cannot be read, if none can.
func (m Machine) Sockets(port uint16) (all []Socket, err error) {
	read := false
	for _, network := range []string{"udp", "tcp"} {
		for _, family := range []string{"", "6"} {
			f, openErr := os.Open(filepath.Join(m.Root, "proc/net", network+family))
			if openErr != nil {
				err = openErr
				continue
			}
			read = true
			for lines := bufio.NewScanner(f); lines.Scan(); {
				if s, ok := parseSocket(network, lines.Text()); ok && s.At.Port() == port {
					all = append(all, s)
				}
			}
			f.Close()
		}
	}
	if read {
		err = nil
	}
	return all, err
}

// Reachable returns an address at which this machine reaches a listener.
func Reachable(at netip.AddrPort) netip.AddrPort {
	switch at.Addr() {
	case netip.IPv4Unspecified():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	case netip.IPv6Unspecified():
		return netip.AddrPortFrom(netip.IPv6Loopback(), at.Port())
	}
	return at
}

// parseSocket reads a line of /proc/net/udp or /proc/net/tcp: number, local address, remote address, state, queues, timer, retransmissions, user, timeout, inode,
// references, pointer, and for UDP drops. It returns false for other lines, and for TCP sockets that do not listen.
func parseSocket(network, line string) (s Socket, ok bool) {
	const listening = "0A"
	fields := strings.Fields(line)
	if len(fields) < 12 || network == "tcp" && fields[3] != listening {
		return s, false
	}
	host, port, _ := strings.Cut(fields[1], ":")
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw)%4 != 0 {
		return s, false
	}
	for word := range slices.Chunk(raw, 4) { // the kernel prints words in the order of this machine's bytes
		slices.Reverse(word)
	}
	addr, isAddr := netip.AddrFromSlice(raw)
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil || !isAddr {
		return s, false
	}
	s = Socket{Network: network, At: netip.AddrPortFrom(addr.Unmap(), uint16(number)), inode: fields[9]}
	if network == "udp" && len(fields) > 12 {
		s.Drops, _ = strconv.ParseUint(fields[12], 10, 64)
	}
	return s, true
}

// Holders are the programs that hold sockets: "dnsmasq (812)". Only root sees the programs of other users.
type Holders struct {
	Rempart bool     // a Rempart is among them
	Others  []string // that hold a socket which no Rempart holds. systemd holds the sockets of Rempart, too, so that they outlive a restart
}

// Holders returns the programs that hold one of the sockets.
func (m Machine) Holders(sockets []Socket) (h Holders) {
	holders := map[string][]string{} // by inode
	for _, s := range sockets {
		holders[s.inode] = nil
	}
	links, _ := filepath.Glob(filepath.Join(m.Root, "proc/[0-9]*/fd/*"))
	for _, link := range links {
		target, err := os.Readlink(link)
		inode := strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")
		if _, ok := holders[inode]; err != nil || !ok {
			continue
		}
		process := filepath.Dir(filepath.Dir(link))
		comm, _ := os.ReadFile(filepath.Join(process, "comm"))
		holders[inode] = append(holders[inode], strings.TrimSpace(string(comm))+" ("+filepath.Base(process)+")")
	}
	for _, names := range holders {
		if slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "rempart (") }) {
			h.Rempart = true
			continue
		}
		for _, name := range names {
			if !slices.Contains(h.Others, name) {
				h.Others = append(h.Others, name)
			}
		}
	}
	slices.Sort(h.Others)
	return h
}
