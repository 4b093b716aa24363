package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Limit is what each network of the clients in a prefix may receive over UDP, per second; 0 means no limit.
type Limit struct {
	Clients netip.Prefix
	Bytes   int64 // of answers that are much larger than their queries
	Answers int64
}

// Limits are the limits of all clients: first the limits of IPv4 and IPv6 for everyone, then those for prefixes.
type Limits []Limit

const (
	defaultLimit = "256KiB+20000/s"
	minBytes     = 1024 // one large answer per second
	maxAnswers   = 1_000_000
	maxLimits    = 256
)

// UnmarshalText reads a limit for everyone, then prefix=limit pairs.
func (l *Limits) UnmarshalText(text []byte) error {
	*l = nil
	var items List
	_ = items.UnmarshalText(text)
	if len(items) == 0 {
		items = List{defaultLimit}
	}
	if len(items) > maxLimits {
		return fmt.Errorf("more than %d limits", maxLimits)
	}
	for i, item := range items {
		prefix, limit, pair := strings.Cut(item, "=")
		prefix, limit = strings.TrimSpace(prefix), strings.TrimSpace(limit)
		if !pair {
			prefix, limit = "", item
		}
		if pair == (i == 0) || pair && prefix == "" {
			return fmt.Errorf("%q: write one limit for everyone, then prefix=limit pairs, like %s,192.0.2.0/28=16MiB+none/s", item, defaultLimit)
		}
		bytes, answers, err := parseLimit(limit)
		if err != nil {
			return err
		}
		if !pair {
			*l = append(*l, Limit{netip.PrefixFrom(netip.IPv4Unspecified(), 0), bytes, answers}, Limit{netip.PrefixFrom(netip.IPv6Unspecified(), 0), bytes, answers})
			continue
		}
		var clients Prefixes
		if clients.UnmarshalText([]byte(prefix)) != nil {
			return fmt.Errorf("%q is not a prefix: write 192.0.2.0/28=16MiB or 2001:db8::/32=16MiB", prefix)
		}
		if slices.ContainsFunc((*l)[2:], func(other Limit) bool { return other.Clients == clients[0] }) { // the first two apply to all clients
			return fmt.Errorf("%s has two limits", clients[0])
		}
		*l = append(*l, Limit{clients[0], bytes, answers})
	}
	l.exempt()
	return nil
}

// parseLimit reads bytes per second, answers per second, or both joined by a plus sign. A quantity that is not written has no limit.
func parseLimit(text string) (bytes, answers int64, err error) {
	if text == none {
		return 0, 0, nil
	}
	parts := strings.Split(text, "+")
	counted := 0 // parts with answers
	for _, part := range parts {
		part = strings.TrimSpace(part)
		number, isRate := strings.CutSuffix(part, "/s")
		switch n := Bytes(0); {
		case isRate:
			counted++
			if number == none {
				break
			}
			answers, err = strconv.ParseInt(number, 10, 64)
			if err != nil || answers < 1 || answers > maxAnswers {
				return 0, 0, fmt.Errorf("%q is no limit: write a number of answers per second from 1 to %d, like 20000/s, or none/s", part, maxAnswers)
			}
		case part == none && len(parts) > 1:
		default:
			if err := n.UnmarshalText([]byte(part)); err != nil || n < minBytes {
				return 0, 0, fmt.Errorf("%q is no limit: write a number of bytes per second, 1KiB at least, like 256KiB, a number of answers per second, like 20000/s, both, like %s, or none", part, defaultLimit)
			}
			bytes = int64(n)
		}
	}
	if counted > 1 || len(parts)-counted > 1 {
		return 0, 0, fmt.Errorf("%q has two limits of one kind: write bytes per second, answers per second, or both, like %s", text, defaultLimit)
	}
	return bytes, answers, nil
}

// exempt takes the number of answers out of the limit for everyone for loopback, link-local and private addresses, unless a prefix has a limit of its own: nobody
// outside can receive answers to them, and a household or a resolver on this machine must not be limited.
func (l *Limits) exempt() {
	everyone := (*l)[0]
	if everyone.Answers == 0 {
		return
	}
	own := (*l)[2:]
	for _, p := range [...]string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"} {
		local := netip.MustParsePrefix(p)
		if !slices.ContainsFunc(own, func(o Limit) bool { return o.Clients.Bits() <= local.Bits() && o.Clients.Contains(local.Addr()) }) {
			*l = append(*l, Limit{local, everyone.Bytes, 0})
		}
	}
}

// LimitNetworks are the prefix lengths of the networks that share a limit.
type LimitNetworks struct{ IPv4, IPv6 int }

// UnmarshalText reads two prefix lengths, with or without a slash.
func (n *LimitNetworks) UnmarshalText(text []byte) error {
	var items List
	_ = items.UnmarshalText(text)
	if len(items) == 0 {
		items = List{"/24", "/56"}
	}
	bad := errors.New("write the prefix lengths of an IPv4 network, from 8 to 32, and of an IPv6 network, from 16 to 128, like /24,/56")
	if len(items) != 2 {
		return bad
	}
	v4, err4 := strconv.Atoi(strings.TrimPrefix(items[0], "/"))
	v6, err6 := strconv.Atoi(strings.TrimPrefix(items[1], "/"))
	if err4 != nil || err6 != nil || v4 < 8 || v4 > 32 || v6 < 16 || v6 > 128 {
		return bad
	}
	*n = LimitNetworks{v4, v6}
	return nil
}

// LimitsAction is what happens to an answer above a limit.
type LimitsAction string

// The actions.
const (
	TruncateAbove LimitsAction = "truncate"
	DropAbove     LimitsAction = "drop"
	ObserveAbove  LimitsAction = "observe"
)

// UnmarshalText reads one of the actions.
func (a *LimitsAction) UnmarshalText(text []byte) error {
	switch s := LimitsAction(text); s {
	case TruncateAbove, DropAbove, ObserveAbove:
		*a = s
		return nil
	}
	return errors.New(`one of "truncate", "drop" and "observe"`)
}

// Ports are UDP or TCP ports.
type Ports []uint16

// UnmarshalText reads ports.
func (p *Ports) UnmarshalText(text []byte) error {
	*p = nil
	var items List
	_ = items.UnmarshalText(text)
	for _, item := range items {
		n, err := strconv.ParseUint(item, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is not a port: write numbers from 0 to 65535, like 123,1900", item)
		}
		*p = append(*p, uint16(n))
	}
	return nil
}
