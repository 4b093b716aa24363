package main

import (
	"context"
	"net"
	"slices"
	"time"

	"rempart/blocklist/feed"
)

// networkEvery is how often it is looked whether the network changed.
const networkEvery = time.Second

// watchNetwork has what failed for want of a network tried again as soon as there is one, until ctx ends: it does not wait for the next try, which comes
// ever later. A network is back when the machine has other addresses, or an upstream answers after none did.
func (s *server) watchNetwork(ctx context.Context) error {
	ticker := time.NewTicker(networkEvery)
	defer ticker.Stop()
	addresses, answered := ownAddresses(), s.forward.answers()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		now := ownAddresses()
		changed := !slices.Equal(now, addresses)
		addresses = now
		if changed {
			s.forward.nudge()
		}
		answers := s.forward.answers()
		if changed || answers && !answered {
			s.retryLists()
		}
		answered = answers
	}
}

// ownAddresses are the addresses of this machine's interfaces, sorted.
func ownAddresses() (texts []string) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	slices.Sort(texts)
	return texts
}

// retryLists looks at every list again if one could not be fetched.
func (s *server) retryLists() {
	if slices.ContainsFunc(s.lists.Status().Lists, func(l feed.ListStatus) bool { return l.Result != feed.OK }) {
		s.lists.Reload()
	}
}

// nudge has upstreams that do not answer probed at once.
func (f *forwarding) nudge() {
	f.main.Nudge()
	for _, p := range f.pools {
		p.Nudge()
	}
}

// answers reports whether an upstream of the names without a zone of their own is well.
func (f *forwarding) answers() bool {
	for _, u := range f.main.Stats().Upstreams {
		if u.Healthy {
			return true
		}
	}
	return false
}
