package main

import (
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rempart/cmd/rempart/cli"
	"rempart/internal/dnstest"
)

// refused runs the program, which must not start, and returns its error output.
func refused(t *testing.T, env ...string) string {
	t.Helper()
	p := dnstest.LaunchProgram(t, exec.Command("rempart"), env...)
	if code := p.Wait(t); code != int(cli.Failure) {
		t.Errorf("exit code %d, want %d", code, cli.Failure)
	}
	if out := p.Stdout(); out != "" {
		t.Errorf("the program printed a greeting:\n%s", out)
	}
	return p.Stderr()
}

// TestErrorsAtStart checks that each error that prevents the start names the invalid value, its variable and a valid value.
func TestErrorsAtStart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "no folder")
	released, feeds := filepath.Join(t.TempDir(), "released"), filepath.Join(t.TempDir(), "feeds.toml")
	write(t, released, "https://a.example/page")
	write(t, feeds, "[[feed]]", `name = "a"`, `scope = "all"`, `path = "a"`)
	stream, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	taken := stream.Addr().String()
	for name, tt := range map[string]struct {
		env  []string
		said []string
	}{
		"upstream": {[]string{"REMPART_UPSTREAMS=h3://192.0.2.1/dns-query"},
			[]string{"REMPART_UPSTREAMS", "h3://192.0.2.1/dns-query", "write https://192.0.2.1/dns-query"}},
		"upstream that is a name": {[]string{"REMPART_UPSTREAMS=dns.example"},
			[]string{"REMPART_UPSTREAMS", "dns.example", "tls://dns.example"}},
		"bootstrap that is a name": {[]string{"REMPART_BOOTSTRAP=tls://dns.example"},
			[]string{"REMPART_BOOTSTRAP", "tls://dns.example", "must follow after @"}},
		"strategy": {[]string{"REMPART_STRATEGY=random"},
			[]string{"REMPART_STRATEGY", "random", "ordered, fastest or spread"}},
		"strategy of an unknown zone": {[]string{"REMPART_STRATEGY=home.arpa=spread"},
			[]string{"REMPART_STRATEGY", "home.arpa=spread", "REMPART_FORWARD"}},
		"forward": {[]string{"REMPART_FORWARD=a..b=udp://192.0.2.1"},
			[]string{"REMPART_FORWARD", "a..b", "empty label"}},
		"essential names": {[]string{"REMPART_ESSENTIAL=" + file}, []string{"REMPART_ESSENTIAL", "essential names"}},
		"released names":  {[]string{"REMPART_RELEASED=" + released}, []string{"REMPART_RELEASED", released + ", line 1", "names a page"}},
		"feed":            {[]string{"REMPART_FEEDS=" + feeds}, []string{"REMPART_FEEDS", feeds + ": line 3: feed \"a\"", "there is no scope"}},
		"root of an ACME authority": {[]string{"REMPART_TLS_LISTEN=127.0.0.1:0", "REMPART_ACME=dns.example", "REMPART_ACME_CA_ROOT=" + file},
			[]string{"REMPART_ACME_CA_ROOT", file, "no PEM certificate"}},
		"certificates of two origins": {[]string{"REMPART_TLS_LISTEN=127.0.0.1:0", "REMPART_ACME=dns.example", "REMPART_CERT=a.pem", "REMPART_KEY=a.key"},
			[]string{"REMPART_ACME", "dns.example", "leave one of them empty"}},
		"list": {[]string{"REMPART_LISTS=gopher://lists.example/"}, []string{"REMPART_LISTS", "http"}},
		"several": {[]string{"REMPART_CACHE_BYTES=1", "REMPART_BLOCK_TTL=0.1s"},
			[]string{`REMPART_CACHE_BYTES="1"`, `REMPART_BLOCK_TTL="0.1s"`, "from 1s to 1h"}},
		"taken port": {[]string{"REMPART_LISTEN=" + taken},
			[]string{taken, "taken", "REMPART_LISTEN"}},
		"data folder": {[]string{"REMPART_DATA_DIR=" + filepath.Join(file, "data")},
			[]string{filepath.Join(file, "data"), "cannot be used", "REMPART_DATA_DIR"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := refused(t, append([]string{"REMPART_UPSTREAMS=udp://127.0.0.1:9"}, tt.env...)...)
			for _, want := range tt.said {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q:\n%s", want, text)
				}
			}
		})
	}
}

// TestSecondInstanceIsRefused checks that a second program refuses to start on a data folder in use, and that the first one continues to answer.
func TestSecondInstanceIsRefused(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	p := start(t, upstreams(u))
	text := refused(t, upstreams(u), "REMPART_DATA_DIR="+p.DataDir)
	for _, want := range []string{p.DataDir, "in use by another process", "REMPART_DATA_DIR"} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	if got := address(ask(t, p, "good.example")); got != origin {
		t.Errorf("the first program: %s", got)
	}
	p.Stop(t)
	if got := address(ask(t, start(t, upstreams(u), "REMPART_DATA_DIR="+p.DataDir), "good.example")); got != origin {
		t.Errorf("a program that was started after the first one ended: %s", got)
	}
}

// TestServerStartsWithoutWebListener checks that the program answers DNS queries if a web listener cannot be opened, and that the log names the listener.
func TestServerStartsWithoutWebListener(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	var addrs []string
	for range 2 {
		taken, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		addrs = append(addrs, taken.Addr().String())
	}
	p := start(t, upstreams(u), "REMPART_PAGE_LISTEN="+addrs[0], "REMPART_METRICS_LISTEN="+addrs[1])
	if got := address(ask(t, p, "good.example")); got != origin {
		t.Errorf("a query: %s", got)
	}
	for _, want := range append(addrs, "REMPART_PAGE_LISTEN", "REMPART_METRICS_LISTEN") {
		logs(t, p, want) // the log and the greeting are different pipes
	}
	if p.Page != "" || p.Metrics != "" {
		t.Errorf("the greeting shows listeners that are not open:\n%s", p.Stdout())
	}
}

// TestServerWithDNSOnly checks a program that serves only DNS.
func TestServerWithDNSOnly(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	p := start(t, upstreams(u), "REMPART_PAGE_LISTEN=none", "REMPART_METRICS_LISTEN=none")
	if p.Page != "" || p.Metrics != "" {
		t.Errorf("greeting:\n%s", p.Stdout())
	}
	if got := address(ask(t, p, "phishing.test")); got != page {
		t.Errorf("a blocked name: %s", got)
	}
}

// TestMisspeltVariableIsRefused checks that a server refuses to start with a misspelt variable and names the nearest setting, and that it only warns of other
// unknown variables with the prefix. Other commands warn of both.
func TestMisspeltVariableIsRefused(t *testing.T) {
	t.Parallel()
	misspelt := []string{"REMPART_UPSTREAM=udp://192.0.2.1", "REMPART_SOMETHING_ELSE=:53", "rempart_lists=x", "Rempart_Mode=observe"}
	for _, args := range [][]string{nil, {"serve"}, {"control"}, {"validate"}} {
		cmd := exec.Command("rempart", args...)
		cmd.Env = append(cmd.Environ(), append(misspelt, "HOME="+t.TempDir(), "REMPART_REFRESH=1s")...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 2 {
			t.Errorf("rempart %q: %v, want exit code 2", args, err)
		}
		for _, want := range []string{
			"REMPART_UPSTREAM is not a setting of Rempart: write REMPART_UPSTREAMS",
			"ignored: REMPART_SOMETHING_ELSE is not a setting of Rempart: \"rempart settings --all\" lists",
			"rempart_lists is not a setting of Rempart: write REMPART_LISTS", "Rempart_Mode is not a setting of Rempart: write REMPART_MODE",
			`REMPART_REFRESH="1s"`,
		} {
			if n := strings.Count(string(out), want); n != 1 {
				t.Errorf("%q: %q is printed %d times:\n%s", args, want, n, out)
			}
		}
	}
	cmd := exec.Command("rempart", "settings")
	cmd.Env = append(cmd.Environ(), misspelt...)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "ignored: REMPART_UPSTREAM is not a setting of Rempart: write REMPART_UPSTREAMS") {
		t.Errorf("another command: %v\n%s", err, out)
	}
	u := dnstest.NewUpstream(t, nil)
	p := start(t, upstreams(u), "REMPART_SOMETHING_ELSE=:53", "REMPART_PORT=udp://10.0.0.7:53", "REMPART_SERVICE_HOST=10.0.0.7", "REMPART_PORT_53_UDP_ADDR=10.0.0.7") // as Kubernetes sets them
	if got := address(ask(t, p, "phishing.test")); got != page {
		t.Errorf("with the variables of a Service of Kubernetes: %s", got)
	}
}
