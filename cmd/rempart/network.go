package main

import (
	"context"
	"net"
	"slices"
	"time"

	"rempart/blocklist/feed"
)

// networkEvery is the interval between checks for changes of the network.
const networkEvery = 500 * time.Millisecond

// watchNetwork retries failed fetches, connects to control and probes upstreams at once when the network is back, because the intervals of regular retries
// grow. The network is back when the machine's addresses change, or when an upstream answers after none did. It returns when ctx ends.
func (s *server) watchNetwork(ctx context.Context) error {
	ticker := time.NewTicker(networkEvery)
	defer ticker.Stop()
	addresses, answered := ownAddresses(), s.forward.IsAnswering()
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
			s.forward.Nudge()
		}
		answers := s.forward.IsAnswering()
		if changed || answers && !answered {
			s.retry()
		}
		answered = answers
	}
}

// ownAddresses returns the addresses of this machine's interfaces, sorted.
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

// retry repeats everything that failed without the network: queries, lists, the connection to control.
func (s *server) retry() {
	s.resolver.ForgetFailures()
	s.retryLists()
	if s.edge != nil {
		s.edge.RetryNow()
	}
}

// retryLists fetches every list again if one could not be fetched.
func (s *server) retryLists() {
	if slices.ContainsFunc(s.lists.Status().Lists, func(l feed.ListStatus) bool { return l.Result != feed.OK }) {
		s.lists.Retry()
	}
}
