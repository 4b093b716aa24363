package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// served is a server with a list and an upstream, and the folders with which commands find it.
type served struct {
	*dnstest.Program
	home, list, allow string
	up                *dnstest.Upstream
}

// serveAtHome starts a server in the default data folder of a home.
func serveAtHome(t *testing.T, env ...string) *served {
	t.Helper()
	s := &served{home: t.TempDir()}
	s.list, s.allow = filepath.Join(s.home, "list.txt"), filepath.Join(s.home, "allow.txt")
	write(t, s.list, "listed.example", "203.0.113.7")
	write(t, s.allow, "# none yet")
	s.up = dnstest.NewUpstream(t, func(q *dnstest.Query) {
		switch strings.ToLower(q.Msg.Question[0].Name) {
		case "shop.example.":
			dnstest.Answer("@ 300 IN CNAME cdn.listed.example.", "cdn.listed.example. 300 IN A 192.0.2.1")(q)
		case "broken.example.":
			dnstest.Rcode(dns.RcodeServerFailure)(q)
		default:
			dnstest.Answer("@ 300 IN A 192.0.2.1")(q)
		}
	})
	s.Program = start(t, append([]string{
		upstreams(s.up), "HOME=" + s.home, "REMPART_DATA_DIR=" + filepath.Join(s.home, ".local", "state", "rempart"), "REMPART_LISTS=" + s.list, "REMPART_ALLOW=" + s.allow,
	}, env...)...)
	return s
}

// run runs a command whose environment has no variables of Rempart, and returns its output and its exit code.
func (s *served) run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return operatorEnv(t, []string{"HOME=" + s.home}, args...)
}

// says runs a command and checks its exit code and parts of its output.
func (s *served) says(t *testing.T, code int, args string, parts ...string) {
	t.Helper()
	stdout, stderr, got := s.run(t, strings.Fields(args)...)
	if got != code {
		t.Errorf("rempart %s: exit code %d, want %d\n%s%s", args, got, code, stdout, stderr)
	}
	for _, part := range parts {
		if !strings.Contains(stdout+stderr, part) {
			t.Errorf("rempart %s does not say %q:\n%s%s", args, part, stdout, stderr)
		}
	}
}

// TestCommandsAskRunningServer checks that commands without any settings ask the running server.
func TestCommandsAskRunningServer(t *testing.T) {
	t.Parallel()
	s := serveAtHome(t)
	s.says(t, 1, "check listed.example", "listed.example: blocked (malicious), by listed.example and everything below it", "list.txt:1: listed.example")
	s.says(t, 0, "check good.example", "good.example: passes")
	s.says(t, 1, "check shop.example", "shop.example: blocked (malicious), because it points to cdn.listed.example, by listed.example and everything below it", "list.txt:1: listed.example")
	s.says(t, 1, "check --json shop.example", `"target":"cdn.listed.example"`)
	s.says(t, 1, "check --why shop.example", "because it points to cdn.listed.example", "list.txt:1")
	s.says(t, 2, "check broken.example", "no upstream answered for broken.example")
	s.says(t, 0, "check localhost", "special-use")
	s.says(t, 2, "check a..b", "not checked")
	s.says(t, 0, "feeds", "list.txt", "ok")
	s.says(t, 0, "held")
	s.says(t, 0, "settings", "REMPART_LISTS", s.list, "(the running server)")
	s.says(t, 0, "status", "answers on  "+s.DNS, "by a set of 3 names", s.up.Addr.String()+": answers", "list.txt: 1 entry")
	s.says(t, 0, "top --interval 200ms", "blocking by 3 names", "queries ", "udp ", s.up.Addr.String(), "list.txt")
	s.says(t, 0, "matches", "no entry decided 10 queries or more yet")
	for range 12 {
		ask(t, s.Program, "www.listed.example")
	}
	s.says(t, 0, "matches", "12  listed.example  malicious  "+s.list)
	stdout, _, _ := s.run(t, "matches")
	if strings.Contains(stdout, "www.") {
		t.Errorf("the output contains a queried name: %s", stdout)
	}
	sample := filepath.Join(s.home, "sample.txt")
	write(t, sample, "listed.example", "good.example")
	s.says(t, 0, "digest --sample "+sample+" --resolver "+s.DNS+" --address "+page, "the verdicts are equal")
	write(t, sample, "listed.example", "good.example", "shop.example")
	s.says(t, 0, "digest --sample "+sample+" --resolver "+s.DNS+" --address "+page,
		"3 names, 2 blocked", "1 name not listed, but blocked for a name or an address in the answer", "\nthe verdicts are equal")

	s.says(t, 0, "allow listed.example listed.example --reason ours", "listed.example: allowed")
	if got := address(ask(t, s.Program, "listed.example")); got != origin {
		t.Errorf("listed.example after rempart allow: %s", got)
	}
	s.says(t, 0, "allow listed.example", "listed.example: allowed")
	data, err := os.ReadFile(s.allow)
	if err != nil || strings.Count(string(data), "listed.example #") != 1 || !strings.Contains(string(data), ": ours\n") {
		t.Errorf("%v\n%s", err, data)
	}
	s.says(t, 2, "allow nas", "nas cannot be allowed: it is ", "nothing was added")
	s.says(t, 0, "allow use-application-dns.net", "not added: it is a special-use name")
	s.says(t, 0, "status")
	info, err := os.Stat(filepath.Join(s.DataDir, "rempart.sock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v", info, err)
	}
	s.Stop(t)
	s.says(t, 2, "check listed.example", "no server to ask")
	s.says(t, 2, "status", "no server to ask")
}

// TestDigestExplainsObserveMode checks that the output explains why an observing server blocks none of the listed names.
func TestDigestExplainsObserveMode(t *testing.T) {
	t.Parallel()
	s := serveAtHome(t, "REMPART_MODE=observe")
	sample := filepath.Join(s.home, "sample.txt")
	write(t, sample, "listed.example", "good.example")
	s.says(t, 1, "digest --sample "+sample+" --resolver "+s.DNS+" --address "+page,
		"only observes and blocks none of them (REMPART_MODE=observe)", "listed.example has different verdicts", "the verdicts are not equal")
}

// TestCommandsWithOtherSettingsDoNotAskServer checks that commands ask the running server only if their environment names the same set.
func TestCommandsWithOtherSettingsDoNotAskServer(t *testing.T) {
	t.Parallel()
	s := serveAtHome(t)
	other := t.TempDir()
	write(t, filepath.Join(other, "list.txt"), "only-here.example")
	run := func(env []string, args ...string) (string, int) {
		cmd := exec.Command("rempart", args...)
		cmd.Dir, cmd.Env = other, append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.home}, env...)
		out, _ := cmd.CombinedOutput() // ProcessState holds the exit code
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := run([]string{"REMPART_LISTS=list.txt"}, "check", "only-here.example"); code != 1 {
		t.Errorf("a name of the list in the working folder: exit code %d, want 1: %s", code, out)
	}
	if out, code := run([]string{"REMPART_LISTS=list.txt"}, "check", "listed.example"); code != 0 {
		t.Errorf("a name that only the server's list contains: exit code %d, want 0: %s", code, out)
	}
	if out, code := run([]string{"REMPART_ALLOW=" + s.allow}, "check", "listed.example"); code != 1 {
		t.Errorf("with only REMPART_ALLOW set: exit code %d, want 1: %s", code, out)
	}
}

// TestMistakeInFeedsFileKeepsFeeds checks that a running server keeps its feeds if its feeds file gets a mistake, and that commands ask the server and report
// the mistake.
func TestMistakeInFeedsFileKeepsFeeds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	feeds, list := filepath.Join(dir, "feeds.toml"), filepath.Join(dir, "l.txt")
	write(t, list, "fed.example")
	write(t, feeds, "[[feed]]", `name = "f"`, `path = "l.txt"`)
	s := serveAtHome(t, "REMPART_FEEDS="+feeds)
	s.says(t, 1, "check fed.example", "f:1: fed.example")
	write(t, feeds, "[[feed]]", `nmae = "f"`)
	logs(t, s.Program, "the feeds file has a mistake")
	s.says(t, 1, "check fed.example", "fed.example: blocked", "line 2")
	s.says(t, 1, "status", "problem", "line 2")
	s.says(t, 0, "feeds", "list.txt", "line 2")
	s.says(t, 2, "held", "line 2")
	if got := address(ask(t, s.Program, "fed.example")); got != page {
		t.Errorf("fed.example: %s, want the page's address", got)
	}
}

// TestStatusNamesProblems checks that "rempart status" names the problems and ends with exit code 1.
func TestStatusNamesProblems(t *testing.T) {
	t.Parallel()
	s := serveAtHome(t, "REMPART_LISTEN=127.0.0.1:0,203.0.113.53:5399", "REMPART_LISTS="+filepath.Join(t.TempDir(), "missing.txt"))
	s.says(t, 1, "status", "problem", "does not have the address 203.0.113.53:5399", "missing.txt: not loaded")
}

// TestCheckReportsObserveMode checks that the output says that blocks are not enforced.
func TestCheckReportsObserveMode(t *testing.T) {
	t.Parallel()
	s := serveAtHome(t, "REMPART_MODE=observe")
	s.says(t, 1, "check listed.example", "blocks are counted and not enforced now")
	s.says(t, 0, "status", "observing")
}

// TestSocketOfAnotherServerIsNotReplaced checks that a server starts without replacing the socket of another server, and with a path that is too long for a
// socket.
func TestSocketOfAnotherServerIsNotReplaced(t *testing.T) {
	t.Parallel()
	s := serveAtHome(t)
	other := start(t, upstreams(s.up), "REMPART_SOCKET="+filepath.Join(s.DataDir, "rempart.sock"))
	if got := address(ask(t, other, "phishing.test")); got != page {
		t.Errorf("phishing.test: %s, want the page's address", got)
	}
	logs(t, other, "another server answers on it")
	s.says(t, 1, "check listed.example", "blocked")
	long := start(t, upstreams(s.up), "REMPART_SOCKET="+filepath.Join(t.TempDir(), strings.Repeat("x", 100), "s"))
	logs(t, long, "REMPART_SOCKET")
}

// logs waits until a program has logged something.
func logs(t *testing.T, p *dnstest.Program, part string) {
	t.Helper()
	dnstest.Eventually(t, "the log contains "+part, func() bool { return strings.Contains(p.Stderr(), part) })
}

// TestNoSecretIsWritten checks that no output contains the secrets in the settings, whether the settings are valid or not.
func TestNoSecretIsWritten(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector")
	}
	t.Parallel()
	const secret = "czNjcjN0LVBhNTVz" // base64, as in a TSIG key
	u := dnstest.NewUpstream(t, nil)
	feeds := filepath.Join(t.TempDir(), "feeds.toml")
	write(t, feeds, "[[feed]]", `name = "a"`, `url = "https://user:`+secret+`@127.0.0.1:1/list?key=`+secret+`"`, "[[feed]]", `name = "z"`, `url = "axfr://127.0.0.1:1/zone.example"`, `format = "rpz"`, `tsig = "hmac-sha256:name:`+secret+`"`)
	p := start(t, upstreams(u), "REMPART_LISTS=http://user:"+secret+"@127.0.0.1:1/x?token="+secret, "REMPART_FEEDS="+feeds, "http_proxy=")
	written := p.Stdout() + p.Stderr()
	_, metrics := get(t, p, "/metrics")
	_, ready := get(t, p, "/readyz")
	written += metrics + ready
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"upstreams"}, {"upstreams", "--json"}, {"settings", "--all"}, {"settings", "--json"}, {"feeds"}, {"feeds", "--json"}, {"check", "good.example"}} {
		stdout, stderr, _ := operatorEnv(t, []string{"REMPART_DATA_DIR=" + p.DataDir, "HOME=" + t.TempDir()}, args...)
		written += stdout + stderr
	}
	for _, env := range [][]string{
		{"REMPART_NATS_URL=nats://user:" + secret + "@127.0.0.1:1", "REMPART_NATS_SYSTEM_CREDENTIALS=sys:" + secret},
		{"REMPART_NATS_URL=bogus://user:" + secret + "@127.0.0.1:1"},
		{"REMPART_CONTROL=tls://user:" + secret + "@127.0.0.1:1", "REMPART_CONTROL_TOKEN=" + secret},
		{"REMPART_CONTROL=https://user:" + secret + "@127.0.0.1:1/v1/journal", "REMPART_CONTROL_KEY=root+00+AA", "REMPART_CONTROL_TOKEN=" + secret},
		{"REMPART_UPSTREAMS=tls://user:" + secret + "@192.0.2.1"}, {"REMPART_FORWARD=x=udp://user:" + secret + "@192.0.2.1"},
		{"REMPART_API=http://user:" + secret + "@127.0.0.1:1", "REMPART_API_TOKEN=" + secret},
	} {
		for _, args := range [][]string{{"control"}, {"serve"}, {"validate"}, {"settings", "--all"}, {"nodes"}} {
			cmd := exec.Command("timeout", append([]string{"2", "rempart"}, args...)...)
			cmd.Env = append([]string{
				"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "REMPART_LISTEN=127.0.0.1:0", "REMPART_PAGE_LISTEN=none", "REMPART_METRICS_LISTEN=none",
			}, env...)
			out, _ := cmd.CombinedOutput() // most of these programs refuse to start
			written += string(out)
		}
	}
	for line := range strings.Lines(written) {
		if strings.Contains(line, secret) {
			t.Errorf("a secret is written: %s", line)
		}
	}
}

// TestNoSecretIsWrittenByControl checks that no output of a control, or of a server that follows it, contains a secret of their settings when they fail in
// many ways.
func TestNoSecretIsWrittenByControl(t *testing.T) {
	t.Parallel()
	const secret = "czNjcjN0LVBhNTVzczNjcjN0LVBhNTVzczNjcjN0LVBh"
	dir := t.TempDir()
	feeds, keys := filepath.Join(dir, "feeds.toml"), filepath.Join(dir, "tsig")
	write(t, feeds, "[[feed]]", `name = "a"`, `url = "https://user:`+secret+`@127.0.0.1:1/list?key=`+secret+`"`)
	write(t, keys, "name hmac-sha256 "+secret)
	control := startControl(t, "REMPART_METRICS_LISTEN=127.0.0.1:0", "REMPART_FEEDS="+feeds, "REMPART_RPZ_LISTEN=127.0.0.1:0", "REMPART_RPZ_KEYS="+keys,
		"REMPART_RPZ_PAGE=page.isp.example", "REMPART_CONTROL_TOKEN="+secret, "REMPART_API_TOKEN="+secret, "http_proxy=")
	ada, node := newToken(t, control, "ada", "publisher,auditor"), newToken(t, control, "node", "node")
	u := dnstest.NewUpstream(t, nil)
	root := rootOf(t, control)
	edge := start(t, upstreams(u), "REMPART_CONTROL="+control.API+"/v1/journal", "REMPART_CONTROL_KEY="+root, "REMPART_CONTROL_TOKEN="+node)
	lost := start(t, upstreams(u), "REMPART_CONTROL=nats://user:"+secret+"@127.0.0.1:1", "REMPART_CONTROL_KEY="+root)
	list := filepath.Join(dir, "list.txt")
	write(t, list, "evil.example")
	var commands strings.Builder
	for _, args := range [][]string{{"push", list, "--wait"}, {"nodes"}, {"nodes", "--json"}, {"audit"}, {"audit", "--json"}, {"token", "list"}, {"token", "list", "--json"}, {"changesets"}, {"names", "evil.example"}, {"log", "evil.example"}} {
		stdout, stderr, _ := operator(t, control, ada, args...)
		commands.WriteString(stdout + stderr)
	}
	write(t, feeds, "[[feed]]", `name = "a"`, `url = "bogus://user:`+secret+`@127.0.0.1:1/list"`)
	control.Signal(t, syscall.SIGHUP)
	logs(t, control, "SIGHUP: keys and files were read again")
	_, metrics := get(t, control, "/metrics")
	_, ready := get(t, lost, "/readyz")
	written := control.Stdout() + control.Stderr() + edge.Stdout() + edge.Stderr() + lost.Stdout() + lost.Stderr() + commands.String() + metrics + ready
	for _, env := range [][]string{
		{"REMPART_NATS_URL=nats://user:" + secret + "@127.0.0.1:1", "REMPART_NATS_SYSTEM_CREDENTIALS=sys:" + secret},
		{"REMPART_NATS_URL=nats://" + secret + "@127.0.0.1:1,nats://user:" + secret + "@127.0.0.1:2"}, {"REMPART_NATS_URL=://user:" + secret + "@127.0.0.1:1"},
	} {
		for _, args := range [][]string{{"journal", "copy", filepath.Join(control.DataDir, "journal")}, {"journal", "copy", dir}, {"control"}, {"validate"}} {
			stdout, stderr, _ := operatorEnv(t, append([]string{"HOME=" + dir, "REMPART_DATA_DIR=" + filepath.Join(dir, "data"), "REMPART_METRICS_LISTEN=none"}, env...), args...)
			written += stdout + stderr
		}
	}
	for line := range strings.Lines(written) {
		if strings.Contains(line, secret) || strings.Contains(line, ada) || strings.Contains(line, node) {
			t.Errorf("a secret is written: %s", line)
		}
	}
}

// TestStatusShowsWhatARestartWouldMiss checks that the state of the server names a file that can no longer be read, and a web listener that could not be opened.
func TestStatusShowsWhatARestartWouldMiss(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	released := filepath.Join(t.TempDir(), "released.txt")
	write(t, released, "good.example")
	s := serveAtHome(t, "REMPART_RELEASED="+released, "REMPART_PAGE_LISTEN="+taken.Addr().String())
	s.says(t, 1, "status", "a web listener could not be opened", "REMPART_PAGE_LISTEN")
	if err := os.Remove(released); err != nil {
		t.Fatal(err)
	}
	dnstest.Eventually(t, "the problem of the file", func() bool {
		stdout, _, _ := s.run(t, "status")
		return strings.Contains(stdout, "REMPART_RELEASED cannot be used; the earlier content stays in use until a restart, which would fail")
	})
	s.says(t, 2, "allow http://shop.example/page", "write its host alone", "nothing was added")
}
