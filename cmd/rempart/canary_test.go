package main

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"rempart/internal/dnstest"
)

// canaryOnce writes a canary file, runs "rempart canary --once" with it, and returns its log and exit code.
func canaryOnce(t *testing.T, file, ca string, env ...string) (log string, code int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "canary.toml")
	write(t, path, file)
	args := []string{"canary", "--once", "--file", path}
	if ca != "" {
		args = append(args, "--ca", ca)
	}
	_, log, code = operatorEnv(t, append(env, "REMPART_DATA_DIR="+t.TempDir(), "REMPART_NODE=canary"), args...)
	return log, code
}

// TestCanaryAsksEveryTransport checks that the canary gets right answers over every transport, and notices a wrong one.
func TestCanaryAsksEveryTransport(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "listed.example")
	s := startEncrypted(t, upstreams(dnstest.NewUpstream(t, nil)), "REMPART_LISTS="+list)
	node := fmt.Sprintf(`
[[node]]
name = "edge-1"
ask = ["udp://%s", "tcp://%[1]s", "tls://dns.example:%s@127.0.0.1", "https://dns.example:%s/dns-query@127.0.0.1", "quic://dns.example:%s@127.0.0.1"]
metrics = "http://%s/metrics"
`, s.DNS, portOf(s.tls), portOf(s.https), portOf(s.quic), s.Metrics)
	if log, code := canaryOnce(t, "blocked = ['listed.example', 'phishing.test']\npassed = ['a.example']\npopular = 5\n"+node, s.ca.path("ca.pem")); code != 0 {
		t.Errorf("exit code %d\n%s", code, log)
	}
	log, code := canaryOnce(t, "blocked = ['a.example']\n"+node, s.ca.path("ca.pem"))
	if code != 1 || strings.Count(log, "a node gives a wrong answer") != 5 || !strings.Contains(log, "name=a.example want=block got=pass") {
		t.Errorf("a name that is not blocked: exit code %d\n%s", code, log)
	}
}

// TestCanaryComparesWithControl checks that the canary expects the verdicts of control's set, and notices a server that does not follow control.
func TestCanaryComparesWithControl(t *testing.T) {
	t.Parallel()
	control := startControl(t)
	u := dnstest.NewUpstream(t, nil)
	edge, other := startEdge(t, control, "edge", upstreams(u)), start(t, upstreams(u))
	ada := newToken(t, control, "ada", "publisher")
	names := filepath.Join(t.TempDir(), "names")
	write(t, names, "pushed.example")
	must(t, control, ada, "push", names, "--reason", "test", "--wait")
	file := func(p *dnstest.Program) string {
		return fmt.Sprintf("listed = 10\npopular = 3\n[[node]]\nname = 'one'\nask = ['udp://%s']\nmetrics = 'http://%s/metrics'\n", p.DNS, p.Metrics)
	}
	follows := edgeEnv(t, control, "canary")
	if log, code := canaryOnce(t, file(edge), "", follows...); code != 0 {
		t.Errorf("a server that follows control: exit code %d\n%s", code, log)
	}
	if log, code := canaryOnce(t, file(other), "", follows...); code != 1 || !strings.Contains(log, "name=pushed.example want=block got=pass") || !strings.Contains(log, "a node is behind control") {
		t.Errorf("another server: exit code %d\n%s", code, log)
	}
}

// TestCanaryFile checks that mistakes in the file are refused, and that the example is read.
func TestCanaryFile(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"": "0 nodes", "every = '1ms'\n": "every", "node = 1\n": "line 1", "colour = 1\n": "colour",
		"[[node]]\nname = 'a'\nask = ['tls://dns.example']\n":                                                "behind @",
		"[[node]]\nname = 'a'\nask = []\n":                                                                   "nothing to ask",
		"[[node]]\nname = 'a'\nask = ['udp://192.0.2.1']\n[[node]]\nname = 'a'\nask = ['udp://192.0.2.1']\n": "a name of its own",
		"blocked = ['a..b']\n[[node]]\nname = 'a'\nask = ['udp://192.0.2.1']\n":                              "blocked",
	} {
		if log, code := canaryOnce(t, file, ""); code != 2 || !strings.Contains(log, want) {
			t.Errorf("%q: exit code %d, %s, want %q", file, code, log, want)
		}
	}
}

// canaryMetrics runs a canary that asks p, and returns its metrics after the first round.
func canaryMetrics(t *testing.T, p *dnstest.Program) (metrics string) {
	t.Helper()
	at := startCanary(t, p)
	dnstest.Eventually(t, "the canary ends its first round", func() bool {
		res, err := http.Get("http://" + at + "/metrics")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		metrics = string(body)
		return err == nil && strings.Contains(metrics, "rempart_canary_node_version{")
	})
	return metrics
}
