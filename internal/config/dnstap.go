package config

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
)

// Dnstap is the address of a dnstap collector; nil for none.
type Dnstap struct{ net.Addr }

// UnmarshalText reads a path or an address.
func (d *Dnstap) UnmarshalText(text []byte) error {
	d.Addr = nil
	if len(text) == 0 {
		return nil
	}
	network, at, _ := strings.Cut(string(text), ":")
	switch {
	case network == "unix" && filepath.IsAbs(at):
		d.Addr = &net.UnixAddr{Net: "unix", Name: at}
		return nil
	case network == "tcp":
		if ap, err := netip.ParseAddrPort(at); err == nil {
			d.Addr = net.TCPAddrFromAddrPort(ap)
			return nil
		}
	}
	return errors.New("write unix:/path/of/the/socket or tcp:192.0.2.1:6000")
}

// DnstapClients is what the collector receives of clients' addresses.
type DnstapClients string

// UnmarshalText reads "cut", "keyed" or "none".
func (d *DnstapClients) UnmarshalText(text []byte) error {
	switch s := DnstapClients(text); s {
	case "cut", "keyed", none:
		*d = s
		return nil
	}
	return errors.New(`one of "cut", "keyed" and "none"`)
}
