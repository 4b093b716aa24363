package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"

	"rempart/internal/dnstest"
)

// TestOperateScripts runs each script with its own control, whose list contains listed.example, and its own edge. "verdict NAME…" shows the answer of the edge,
// "nodes" runs "rempart nodes" until every server is up to date.
func TestOperateScripts(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob(filepath.Join("testdata", "operate", "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	u := dnstest.NewUpstream(t, nil)
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) {
			t.Parallel()
			list := filepath.Join(t.TempDir(), "list.txt")
			write(t, list, "listed.example")
			control := startControl(t, "REMPART_LISTS="+list)
			edge := startEdge(t, control, "paris", upstreams(u))
			testscript.Run(t, testscript.Params{
				Files: []string{script}, RequireExplicitExec: true,
				Setup: func(e *testscript.Env) error {
					e.Setenv("REMPART_API", control.API)
					e.Setenv("REMPART_KEYS", keysOf(control))
					e.Setenv("METRICS", edge.Metrics)
					e.Setenv("EDGE", edge.DNS)
					e.Setenv("ROOT", rootOf(t, control))
					e.Setenv("HOME", e.WorkDir)
					return nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"verdict": func(ts *testscript.TestScript, _ bool, names []string) {
						for _, name := range names {
							m, _, err := (&dns.Client{Timeout: time.Minute}).Exchange(question(name), edge.DNS)
							ts.Check(err)
							verdict := address(m)
							switch verdict {
							case origin:
								verdict = "passes"
							case page:
								verdict = "blocked"
							}
							_, err = ts.Stdout().Write([]byte(name + " " + verdict + "\n"))
							ts.Check(err)
						}
					},
					"nodes": func(ts *testscript.TestScript, _ bool, args []string) {
						dnstest.Eventually(t, "every server is up to date", func() bool {
							return ts.Exec("rempart", append([]string{"nodes"}, args...)...) == nil
						})
					},
					"reload": func(*testscript.TestScript, bool, []string) { control.Signal(t, syscall.SIGHUP) },
				},
			})
		})
	}
}

// TestPushIsRepeatedAfterLostAnswer checks that "rempart push" repeats a push under the same ID if a proxy drops the answer, and that the push takes effect
// once.
func TestPushIsRepeatedAfterLostAnswer(t *testing.T) {
	t.Parallel()
	control := startControl(t)
	to, err := url.Parse(control.API)
	if err != nil {
		t.Fatal(err)
	}
	var asked, pushed atomic.Int32
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ModifyResponse: func(resp *http.Response) error {
			if resp.StatusCode == http.StatusCreated {
				pushed.Add(1)
			}
			if resp.Request.Method == http.MethodPost && asked.Add(1) < 3 {
				panic(http.ErrAbortHandler)
			}
			return nil
		},
	}
	between := httptest.NewServer(proxy)
	defer between.Close()
	token := newToken(t, control, "ada", "publisher")
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "evil.example")
	stdout, stderr, code := operatorEnv(t, []string{"REMPART_API=" + between.URL, "REMPART_API_TOKEN=" + token}, "push", list, "--id", "once")
	if code != 0 || !strings.Contains(stdout, "once: 1 change, in the journal as version") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if asked.Load() != 3 || pushed.Load() != 1 {
		t.Errorf("the push was sent %d times, want 3, and published %d times, want 1", asked.Load(), pushed.Load())
	}
	if log := must(t, control, token, "log", "evil.example"); strings.Count(log, "block evil.example") != 1 {
		t.Errorf("the log of evil.example is\n%s", log)
	}

	// A call that must not be repeated is sent once, and the error says that its effect is unknown.
	asked.Store(0)
	stdout, stderr, code = operatorEnv(t, []string{"REMPART_API=" + between.URL, "REMPART_API_TOKEN=" + token}, "undo", "once")
	if code != 2 || asked.Load() != 1 || !strings.Contains(stderr, "it is not known whether the call took effect") {
		t.Errorf("exit code %d, asked %d times\n%s%s", code, asked.Load(), stdout, stderr)
	}
	if shown, _, _ := operator(t, control, token, "show", "once"); !strings.Contains(shown, "undone by undo-once") {
		t.Errorf("rempart show prints\n%s", shown)
	}
}

// TestHostileAPIAnswerIsHarmless checks that the answer of a server that is not a control cannot write escape sequences to the terminal, and that its size is
// limited.
func TestHostileAPIAnswerIsHarmless(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer func(w http.ResponseWriter)
		said   string
	}{
		"HTML body": {func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) }, "is not understood"},
		"no body":   {func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }, "is not understood"},
		"redirect":  {func(w http.ResponseWriter) { w.Header().Set("Location", "http://192.0.2.1/"); w.WriteHeader(302) }, "name the control itself"},
		"escape sequences": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(422)
			_, _ = w.Write([]byte(`{"detail":"\u001b[2Jwrong\nrempart: fine"}`))
		}, "\ufffd[2Jwrong rempart: fine"},
		"endless": {func(w http.ResponseWriter) {
			for chunk := make([]byte, 1<<20); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tt.answer(w) }))
			defer s.Close()
			stdout, stderr, code := operatorEnv(t, []string{"REMPART_API=" + s.URL}, "nodes")
			if code != 2 || stdout != "" || !strings.Contains(stderr, tt.said) || strings.Contains(stderr, "\x1b") {
				t.Errorf("exit code %d\n%s%q", code, stdout, stderr)
			}
		})
	}
}

// TestServersWithSameNameAreListedSeparately checks that two servers with the same name are listed separately, each under its own token.
func TestServersWithSameNameAreListedSeparately(t *testing.T) {
	t.Parallel()
	control := startControl(t)
	edge := startEdge(t, control, "lyon", upstreams(dnstest.NewUpstream(t, nil)))
	token := newToken(t, control, "ada", "publisher")
	if got := address(ask(t, edge, "evil.example")); got != origin {
		t.Errorf("before the push: %s", got)
	}
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "evil.example")
	must(t, control, token, "push", list, "--wait")
	if got := address(ask(t, edge, "evil.example")); got != page {
		t.Errorf("after the push: %s", got)
	}
	nodes := func() string {
		said, _, _ := operator(t, control, token, "nodes") // the exit code is 1 while a server is behind, for example one that was just started
		return said
	}
	if said := nodes(); !strings.Contains(said, "lyon") {
		t.Errorf("nodes:\n%s", said)
	}
	// The report of a server with the same name and another token is listed separately.
	startEdge(t, control, "other", upstreams(dnstest.NewUpstream(t, nil)), "REMPART_NODE=lyon")
	dnstest.Eventually(t, "the other's report", func() bool { return strings.Contains(nodes(), "other/lyon") })
	report, err := http.NewRequestWithContext(t.Context(), http.MethodPost, control.API+"/v1/journal/status", strings.NewReader(`{"node":"lyon"}`))
	if err != nil {
		t.Fatal(err)
	}
	report.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(report)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusForbidden {
		t.Errorf("a publisher's report for a node: status %s, want 403", answer.Status)
	}
}

// TestPolicyZonesContainChangeSets checks that policy zones contain the names of large and small change sets, also after a restart.
func TestPolicyZonesContainChangeSets(t *testing.T) {
	t.Parallel()
	addr, dir := dnstest.FreeAddr(t), t.TempDir()
	begin := func() *dnstest.Program {
		return startControl(t, "REMPART_DATA_DIR="+dir, "REMPART_RPZ_LISTEN="+addr, "REMPART_RPZ_ZONES=rpz.example=nxdomain", "REMPART_RPZ_KEYLESS=127.0.0.0/8")
	}
	control := begin()
	token := newToken(t, control, "ada", "publisher")
	list := filepath.Join(t.TempDir(), "list.txt")
	push := func(names ...string) {
		write(t, list, names...)
		must(t, control, token, "push", list)
	}
	push("first.example")
	waitForZone(t, addr, "first.example", 1)
	time.Sleep(time.Second) // otherwise the next changes are merged into one
	var large []string
	for i := range 6000 {
		large = append(large, fmt.Sprintf("n%d.large.example", i))
	}
	push(large...)
	waitForZone(t, addr, "n5999.large.example", 6001)
	push("last.example")
	waitForZone(t, addr, "last.example", 6002)
	control.Stop(t)
	begin()
	waitForZone(t, addr, "n0.large.example", 6002)
}

// waitForZone waits until a zone contains the name, and at least that many names.
func waitForZone(t *testing.T, addr, name string, least int) {
	t.Helper()
	dnstest.Eventually(t, name+" in the zone", func() bool {
		transfer := &dns.Transfer{DialTimeout: time.Minute, ReadTimeout: time.Minute}
		answers, err := transfer.In(new(dns.Msg).SetAxfr("rpz.example."), addr)
		if err != nil {
			return false
		}
		names, found := 0, false
		for a := range answers {
			for _, rr := range a.RR {
				if owner := rr.Header().Name; rr.Header().Rrtype == dns.TypeCNAME && !strings.HasPrefix(owner, "*.") {
					names++
					found = found || owner == name+".rpz.example."
				}
			}
		}
		return found && names >= least
	})
}

// TestControlInServerProcess checks a server that runs control in its own process.
func TestControlInServerProcess(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "listed.example")
	addr := dnstest.FreeAddr(t)
	p := start(t, upstreams(dnstest.NewUpstream(t, nil)), "REMPART_PUSH_LISTEN="+addr, "REMPART_LISTS="+list)
	dnstest.Eventually(t, "the lists are in force", func() bool { return address(ask(t, p, "listed.example")) == page })
	dnstest.Eventually(t, "control is ready", func() bool { return strings.Contains(p.Stderr(), "control is ready") })
	p.API = "http://" + addr // the greeting may have been written before
	token := newToken(t, p, "ada", "publisher")
	pushed := filepath.Join(t.TempDir(), "pushed.txt")
	write(t, pushed, "evil.example")
	must(t, p, token, "push", pushed, "--wait")
	if got := address(ask(t, p, "evil.example")); got != page {
		t.Errorf("pushed: %s", got)
	}
	must(t, p, token, "unblock", "listed.example", "--reason", "a mistake", "--wait")
	if got := address(ask(t, p, "listed.example")); got != origin {
		t.Errorf("unblocked: %s", got)
	}
}

// TestAllowStaysLocal checks that REMPART_ALLOW of one edge has no effect on another edge.
func TestAllowStaysLocal(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	control := startControl(t)
	allow := filepath.Join(t.TempDir(), "allow.txt")
	write(t, allow, "evil.example")
	one, other := startEdge(t, control, "one", upstreams(u), "REMPART_ALLOW="+allow), startEdge(t, control, "other", upstreams(u))
	token := newToken(t, control, "ada", "publisher")
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "evil.example", "worse.example")
	must(t, control, token, "push", list, "--wait")
	for _, tt := range []struct {
		edge       *dnstest.Program
		name, want string
	}{{one, "evil.example", origin}, {one, "worse.example", page}, {other, "evil.example", page}, {other, "worse.example", page}} {
		if got := address(ask(t, tt.edge, tt.name)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	write(t, allow, "worse.example") // the edge reads the changed file at once
	dnstest.Eventually(t, "the changed file is in force", func() bool {
		return address(ask(t, one, "evil.example")) == page && address(ask(t, one, "worse.example")) == origin
	})
}

// TestServerWithoutControlCreatesNoJournal checks that a server without a control creates no keys and no journal.
func TestServerWithoutControlCreatesNoJournal(t *testing.T) {
	t.Parallel()
	p := start(t, upstreams(dnstest.NewUpstream(t, nil)))
	for _, name := range []string{"keys", "journal", "control", "edge", "node"} {
		if _, err := os.Stat(filepath.Join(p.DataDir, name)); err == nil {
			t.Errorf("the server created %s", name)
		}
	}
	if p.API != "" || strings.Contains(p.Stdout(), "control") {
		t.Errorf("the greeting mentions a control:\n%s", p.Stdout())
	}
}

// TestEdgeRefusesLists checks that a server that follows a control refuses to start with lists.
func TestEdgeRefusesLists(t *testing.T) {
	t.Parallel()
	text := refused(t, "REMPART_CONTROL=https://control.example/v1/journal", "REMPART_CONTROL_KEY=x", "REMPART_LISTS=list.txt")
	if !strings.Contains(text, "REMPART_LISTS") || !strings.Contains(text, "REMPART_ALLOW stays") {
		t.Errorf("the refusal does not name REMPART_LISTS and REMPART_ALLOW: %s", text)
	}
}

// TestUnreachableErrorNamesAddressAndVariable checks that the error contains the address of the unreachable server and the variable that sets it.
func TestUnreachableErrorNamesAddressAndVariable(t *testing.T) {
	t.Parallel()
	addr := dnstest.FreeAddr(t)
	_, stderr, code := operatorEnv(t, []string{"REMPART_API=http://" + addr, "REMPART_UPSTREAMS=nonsense"}, "nodes")
	if code != 2 || !strings.Contains(stderr, addr) || !strings.Contains(stderr, "cannot be reached") || !strings.Contains(stderr, "the address is set by REMPART_API") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}
