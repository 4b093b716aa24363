package main

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"rempart/internal/dnstest"
)

// TestNoQueryIsLostDuringHundredReloads checks that no query is lost while a list changes a hundred times, by few and by many names in turn, and that each new
// name is blocked.
func TestNoQueryIsLostDuringHundredReloads(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	list := filepath.Join(t.TempDir(), "list.txt")
	many := make([]string, 30_000) // the difference is too large for an overlay: the set is compiled again
	for i := range many {
		many[i] = fmt.Sprintf("many%d.example", i)
	}
	write(t, list, append(many, "new.example")...)
	p := start(t, upstreams(u), "REMPART_LISTS="+list)
	var stop atomic.Bool
	answered := load(t, p, &stop)
	reloads := 100
	if raceEnabled {
		reloads = 20
	}
	for i := range reloads {
		fresh := fmt.Sprintf("new%d.example", i)
		if i%10 == 0 {
			for j := range len(many) * 2 / 5 { // a larger change would be held as a mass change
				many[(i/10*len(many)/4+j)%len(many)] = fmt.Sprintf("many%d-%d.example", i, j)
			}
		}
		write(t, list, append(many[:len(many):len(many)], fresh, "new.example")...)
		p.Signal(t, syscall.SIGHUP)
		dnstest.Eventually(t, fresh+" is blocked", func() bool { return t.Failed() || address(ask(t, p, fresh)) == page })
		if t.Failed() {
			break
		}
	}
	stop.Store(true)
	t.Logf("%d queries answered meanwhile", answered())
}
