package main

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rempart/internal/appeal"
	"rempart/internal/dnstest"
)

// appealControl starts a control with a portal that accepts requests for a review. It blocks phishing.test.
func appealControl(t *testing.T, policy string, env ...string) (control *dnstest.Program, portal string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "appeals.toml")
	write(t, file, "service = 'The desk'", "contact = 'desk@isp.example'", policy)
	portal = dnstest.FreeAddr(t)
	return startControl(t, append(env, "REMPART_APPEALS="+file, "REMPART_PORTAL_LISTEN="+portal)...), portal
}

// reader sends requests from an address of its own, because requests of one client are limited.
type reader struct{ client *http.Client }

var readers atomic.Uint32

func newReader() *reader {
	n := readers.Add(1)
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(n/200), byte(n%200+1))}, Timeout: 10 * time.Second}
	return &reader{&http.Client{
		Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// file asks for a review of a block, and reports whether the portal acknowledged it.
func (r *reader) file(portal, code, name string) bool {
	res, err := r.client.PostForm("http://"+portal+"/appeal?lang=en", url.Values{"code": {code}, "name": {name}, "reason": {"It is my shop, and it is safe."}, "email": {"me@shop.example"}})
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusSeeOther
}

func (r *reader) get(t *testing.T, address string) (status int, body string) {
	t.Helper()
	return fetch(t, r.client, address)
}

// TestAcknowledgedAppealsSurviveKills kills control while readers ask for reviews, and checks that no acknowledged request is lost.
func TestAcknowledgedAppealsSurviveKills(t *testing.T) {
	t.Parallel()
	kills := 5
	if os.Getenv(longTests) != "" {
		kills = 50
	}
	data := t.TempDir()
	var mu sync.Mutex
	var acknowledged []string
	unacknowledged := 0
	for range kills {
		control, portal := appealControl(t, "", "REMPART_DATA_DIR="+data)
		var work sync.WaitGroup
		for range 4 {
			work.Go(func() {
				for {
					code := appeal.NewCode()
					ok := newReader().file(portal, code, "phishing.test")
					mu.Lock()
					if ok {
						acknowledged = append(acknowledged, code)
					} else {
						unacknowledged++
					}
					mu.Unlock()
					if !ok {
						return
					}
				}
			})
		}
		time.Sleep(200 * time.Millisecond)
		control.Signal(t, syscall.SIGKILL)
		work.Wait()
		control.Wait(t)
	}
	control, portal := appealControl(t, "", "REMPART_DATA_DIR="+data)
	lost := 0
	for _, code := range acknowledged {
		if status, _ := newReader().get(t, "http://"+portal+"/appeal/"+code); status != http.StatusOK {
			lost++
		}
	}
	t.Logf("%d kills: %d requests were acknowledged, %d were not; %d are lost", kills, len(acknowledged), unacknowledged, lost)
	if lost > 0 || len(acknowledged) < kills {
		t.Errorf("%d of %d acknowledged requests are lost", lost, len(acknowledged))
	}
	rita := newToken(t, control, "rita", "reviewer")
	if out, errs, code := operator(t, control, rita, "appeals", "--limit", "1"); code != 0 || strings.Count(out, "phishing.test") != 1 {
		t.Errorf("rempart appeals: code %d\n%s%s", code, out, errs)
	}
}

// TestUpheldAppealPassesOnEdges measures the time from a reviewer's decision until the name passes on three servers, and checks what the portal shows.
func TestUpheldAppealPassesOnEdges(t *testing.T) {
	t.Parallel()
	const appeals = 20
	list := filepath.Join(t.TempDir(), "list.txt")
	var names []string
	for i := range appeals {
		names = append(names, fmt.Sprintf("shop%d.example", i))
	}
	write(t, list, names...)
	control, portal := appealControl(t, "", "REMPART_LISTS="+list)
	u := dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A "+origin))
	var edges []*dnstest.Program
	for i := range 3 {
		edges = append(edges, startEdge(t, control, fmt.Sprintf("edge%d", i), upstreams(u)))
	}
	rita := newToken(t, control, "rita", "reviewer")
	var took []time.Duration
	for _, name := range names {
		code := appeal.NewCode()
		if !newReader().file(portal, code, name) {
			t.Fatalf("the request about %s was not acknowledged", name)
		}
		out, _, _ := operator(t, control, rita, "appeals", "--state", "open")
		number, _, _ := strings.Cut(out, " ")
		for _, e := range edges {
			if got := address(ask(t, e, name)); got != page {
				t.Fatalf("%s before the decision: %s", name, got)
			}
		}
		started := time.Now()
		if out, errs, code := operator(t, control, rita, "appeals", "uphold", number, "--why", "safe", "--note", "Thank you."); code != 0 || !strings.Contains(out, "is version") {
			t.Fatalf("uphold: code %d\n%s%s", code, out, errs)
		}
		for _, e := range edges {
			dnstest.Eventually(t, name+" passes", func() bool { return address(ask(t, e, name)) == origin })
		}
		took = append(took, time.Since(started))
		_, body := newReader().get(t, "http://"+portal+"/appeal/"+code+"?lang=en")
		for _, want := range []string{"accepted: the address is not blocked any more", "Thank you.", number} {
			if !strings.Contains(body, want) {
				t.Errorf("the receipt has no %q: %s", want, body)
			}
		}
	}
	slices.Sort(took)
	t.Logf("from \"rempart appeals uphold\" until the name passes on three servers: median %v, longest of %d %v", took[len(took)/2], len(took), took[len(took)-1])
	if out, _, code := operator(t, control, rita, "appeals", "--lists"); code != 0 || !strings.Contains(out, fmt.Sprintf("list.txt  %d upheld", appeals)) {
		t.Errorf("upheld appeals by list: code %d\n%s", code, out)
	}
	_, body := newReader().get(t, "http://"+portal+"/?lang=en&name=shop3.example")
	for _, want := range []string{"shop3.example</bdi> is allowed", "Past decisions", "allowed<br>"} {
		if !strings.Contains(body, want) {
			t.Errorf("the portal has no %q: %s", want, body)
		}
	}
	for where, text := range map[string]string{"standard output": control.Stdout(), "standard error": control.Stderr()} {
		for _, secret := range []string{"me@shop.example", "my shop", "127.1."} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in the %s of control", secret, where)
			}
		}
	}
}
