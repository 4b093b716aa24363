package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rempart/internal/dnstest"
)

// TestHouseholdLatency measures, on one core and with everything on that a household can use, how long answers take at 1,000 queries per second.
func TestHouseholdLatency(t *testing.T) {
	if os.Getenv(longTests) == "" {
		t.Skip("skipped without " + longTests)
	}
	dnstest.Need(t, "taskset")
	const million = 1_000_000
	names := make([]string, million)
	for i := range names {
		names[i] = "n" + strconv.Itoa(i) + ".bad" + strconv.Itoa(i%1000) + ".example"
	}
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, names...)
	e := newEncrypted(t)
	env := slices.Concat(e.env, []string{
		"GOMAXPROCS=1", "REMPART_UPSTREAMS=udp://" + echoUpstream(t, func(int) time.Duration { return 0 }), "REMPART_LISTS=" + list, "REMPART_CANARY=firefox,icloud", "REMPART_SINGLE_LABELS=keep", "REMPART_REBINDING=refuse",
		"REMPART_PORTAL_LISTEN=127.0.0.1:0", "REMPART_PAGE_HTTPS_LISTEN=127.0.0.1:0", "REMPART_CONTINUE_CATEGORIES=scam", "REMPART_REASON=lists",
		"REMPART_DNSTAP=unix:" + filepath.Join(t.TempDir(), "nobody.sock"),
	})
	p := dnstest.StartProgram(t, exec.Command("taskset", "-c", "0", "rempart"), env...)
	dnstest.Eventually(t, "the list is in force", func() bool { return strings.Contains(p.Stderr(), "names=1000002") })
	for range 3 {
		load := newDatagramLoad(t, p.DNS, restartLoad{queries: 20_000, rate: 1_000, query: loadQuery})
		load.run()
		t.Logf("%d queries, %d lost: half within %v, 99 %% within %v, longest %v", load.sent.Load(), load.lost.Load(), load.quantile(0.5), load.quantile(0.99), load.quantile(1))
	}
}
