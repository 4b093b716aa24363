package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rempart/internal/dnstest"
)

// TestLastContentIsInForceAfterRestart checks that the last content of lists is in force after a restart without their file and their publisher, and that the
// greeting shows that the content is old.
func TestLastContentIsInForceAfterRestart(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	publisher := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "fetched.example")
	}))
	t.Cleanup(publisher.Close) // after the program has ended
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "kept.example")
	env := []string{
		upstreams(u), "REMPART_DATA_DIR=" + t.TempDir(),
		"REMPART_LISTS=" + list + "," + publisher.URL + "/list.txt?token=secret",
	}
	blocked := func(p *dnstest.Program) {
		t.Helper()
		for _, name := range []string{"kept.example", "fetched.example"} {
			if got := address(ask(t, p, name)); got != page {
				t.Errorf("%s: %s, want the page's address", name, got)
			}
		}
		if code, body := get(t, p, "/readyz"); code != http.StatusOK {
			t.Errorf("/readyz: %d %s", code, body)
		}
		if said := p.Stdout() + p.Stderr(); strings.Contains(said, "secret") {
			t.Errorf("the output contains the query of the URL:\n%s", said)
		}
	}
	p := start(t, env...)
	blocked(p)
	if code := p.Stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	publisher.Close()
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	p = start(t, env...)
	blocked(p)
	if !strings.Contains(p.Stdout(), list+": 1 entry, its last good content") {
		t.Errorf("the greeting does not say that the list is old:\n%s", p.Stdout())
	}
	if code := p.Stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}

	// If the snapshot is damaged, the server compiles it again from the copies of the lists.
	snapshot := filepath.Join(p.DataDir, "set.snapshot")
	b, err := os.ReadFile(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(snapshot, b, 0o600); err != nil {
		t.Fatal(err)
	}
	p = start(t, env...)
	blocked(p)
	logs(t, p, "snapshot is refused")
}

// TestSilentPublisherDoesNotDelayAnswers checks that a publisher which never answers does not delay the answers to queries.
func TestSilentPublisherDoesNotDelayAnswers(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	asked := make(chan struct{}, 10)
	publisher := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(publisher.Close) // after the program has ended
	began := time.Now()
	start(t, upstreams(u))
	usual := time.Since(began)
	began = time.Now()
	p := start(t, upstreams(u), "REMPART_LISTS="+publisher.URL+"/list.txt")
	if took := time.Since(began); took > 10*time.Second+3*usual {
		t.Errorf("queries were answered after %v, and after %v without the list", took, usual)
	}
	<-asked
	if got := address(ask(t, p, "good.example")); got != origin {
		t.Errorf("a query while the publisher does not answer: %s", got)
	}
	if got := address(ask(t, p, "phishing.test")); got != page {
		t.Errorf("a built-in name while the publisher does not answer: %s", got)
	}
	code, body := get(t, p, "/readyz")
	if code != http.StatusServiceUnavailable || !strings.Contains(body, publisher.URL+"/list.txt") || !strings.Contains(body, "not been fetched") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if !strings.Contains(p.Stdout(), "until every list was fetched once") {
		t.Errorf("the greeting does not name the list that has not arrived:\n%s", p.Stdout())
	}
	if code, _ := get(t, p, "/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d", code)
	}
}

// TestListIsFetchedOncePublisherIsAvailable checks that a list is in force after its publisher, which was down at the start, becomes available.
func TestListIsFetchedOncePublisherIsAvailable(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	up := make(chan struct{})
	publisher := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-up:
			fmt.Fprintln(w, "fetched.example")
		default:
			http.Error(w, "not now", http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(publisher.Close) // after the program has ended
	p := start(t, upstreams(u), "REMPART_LISTS="+publisher.URL+"/list.txt")
	if code, body := get(t, p, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "503") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	close(up)
	p.Signal(t, syscall.SIGHUP) // without the signal, the retry would take ten seconds
	dnstest.Eventually(t, "the list is in force", func() bool { return address(ask(t, p, "fetched.example")) == page })
	dnstest.Eventually(t, "it is ready", func() bool {
		code, _ := get(t, p, "/readyz")
		return code == http.StatusOK
	})
}

// TestMissingListIsReportedAndReadLater checks that the program starts without a missing list and reports it, and reads the list as soon as it exists.
func TestMissingListIsReportedAndReadLater(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	dir := t.TempDir()
	missing, allow := filepath.Join(dir, "later", "list.txt"), filepath.Join(dir, "allow.txt")
	write(t, allow, "fine.bad.example")
	p := start(t, upstreams(u), "REMPART_LISTS="+missing, "REMPART_ALLOW="+allow)
	for what, said := range map[string]func() string{"the greeting": p.Stdout, "the log": p.Stderr} {
		dnstest.Eventually(t, what+" says which list is missing, and why", func() bool {
			return strings.Contains(said(), missing) && strings.Contains(said(), "no such file")
		})
	}
	if got := address(ask(t, p, "www.bad.example")); got != origin {
		t.Errorf("www.bad.example before the list exists: %s", got)
	}
	if err := os.Mkdir(filepath.Dir(missing), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, missing, "*.bad.example")
	dnstest.Eventually(t, "the list is read as soon as it exists", func() bool {
		return address(ask(t, p, "www.bad.example")) == page
	})
	if got := address(ask(t, p, "fine.bad.example")); got != origin {
		t.Errorf("an allowed name below the listed one: %s", got)
	}
}
