package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"

	"rempart/internal/dnstest"
)

// serveNATS runs a NATS server with a configuration file. The test binary calls it if it is executed under the name nats-member.
func serveNATS() {
	opts, err := nats.ProcessConfigFile(os.Args[1])
	if err == nil {
		var s *nats.Server
		if s, err = nats.NewServer(opts); err == nil {
			s.ConfigureLogger()
			err = nats.Run(s)
			s.WaitForShutdown()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// startCluster runs three servers with the example's configuration, and returns their URLs for control.
func startCluster(t *testing.T) string {
	t.Helper()
	example, err := os.ReadFile(filepath.Join("..", "..", "internal", "journal", "stream", "testdata", "cluster.conf"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var clients, routes, urls, quoted []string
	for range 3 {
		clients, routes = append(clients, dnstest.FreeAddr(t)), append(routes, dnstest.FreeAddr(t))
	}
	for _, addr := range routes {
		quoted = append(quoted, fmt.Sprintf("%q", "nats://"+addr))
	}
	for i := range clients {
		text := string(example)
		for old, now := range map[string]string{
			"server_name: s0": fmt.Sprintf("server_name: s%d", i), `listen: "127.0.0.1:4222"`: fmt.Sprintf("listen: %q", clients[i]),
			`listen: "127.0.0.1:6222"`: fmt.Sprintf("listen: %q", routes[i]), `"nats://127.0.0.1:6222"`: strings.Join(quoted, ", "),
			`store_dir: "/var/lib/nats"`: fmt.Sprintf("store_dir: %q", filepath.Join(dir, fmt.Sprint(i))),
		} {
			text = strings.Replace(text, old, now, 1)
		}
		conf := filepath.Join(dir, fmt.Sprintf("s%d.conf", i))
		write(t, conf, text)
		dnstest.StartPeer(t, exec.Command("nats-member", conf))
		urls = append(urls, (&url.URL{Scheme: "nats", User: url.UserPassword("control", "secret"), Host: clients[i]}).String())
	}
	for _, addr := range clients {
		dnstest.Eventually(t, "a NATS server", func() bool {
			conn, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
	}
	return strings.Join(urls, ",")
}

// apiAnswer requests a path of a control's API and returns the answer.
func apiAnswer(t *testing.T, control *dnstest.Program, token, path string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, control.API+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", path, answer.Status, err)
	}
	return body.Bytes()
}

// TestControlContinuesWithJournalOnCluster checks that a control can continue with a copy of its journal on a NATS cluster: pushed and held change sets and the
// audit trail are kept, the edge stays up to date in the same epoch, and pushes succeed.
func TestControlContinuesWithJournalOnCluster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	u, data := dnstest.NewUpstream(t, nil), t.TempDir()
	listen := "REMPART_PUSH_LISTEN=" + dnstest.FreeAddr(t)
	control := startControl(t, "REMPART_DATA_DIR="+data, listen)
	ada, eve := newToken(t, control, "ada", "publisher,auditor"), newToken(t, control, "eve", "approver")
	edge := startEdge(t, control, "paris", upstreams(u))
	var names []string
	for i := range 60 {
		names = append(names, fmt.Sprintf("evil%d.example", i))
	}
	dir := t.TempDir()
	list, held := filepath.Join(dir, "list.txt"), filepath.Join(dir, "held.txt")
	write(t, list, names...)
	write(t, held, "wikipedia.org")
	must(t, control, ada, "push", list, "--id", "sixty", "--wait")
	if stdout, stderr, code := operator(t, control, ada, "push", held, "--id", "popular"); code != 1 {
		t.Fatalf("a popular name: exit code %d\n%s%s", code, stdout, stderr)
	}
	before := must(t, control, ada, "changesets")
	trail := apiAnswer(t, control, ada, "/v1/audit?sealed=true")
	var newest string
	dnstest.Eventually(t, "every server is up to date", func() bool {
		var code int
		newest, _, code = operator(t, control, ada, "nodes", "--json")
		return code == 0
	})

	cluster := startCluster(t)
	settings := []string{"HOME=" + dir, "REMPART_DATA_DIR=" + data, "REMPART_NATS_URL=" + cluster, "REMPART_NATS_SYSTEM_CREDENTIALS=admin:adm:in"}
	if stdout, stderr, code := operatorEnv(t, settings, "journal", "copy"); code != 2 || !strings.Contains(stderr, "stop control first") {
		t.Errorf("while control runs: exit code %d\n%s%s", code, stdout, stderr)
	}
	control.Stop(t)
	dnstest.Eventually(t, "control refuses the empty cluster", func() bool {
		_, stderr, code := operatorEnv(t, append(settings, "REMPART_METRICS_LISTEN=none"), "control")
		return code == 2 && strings.Contains(stderr, "rempart journal copy")
	})
	var copied string
	for range 2 { // the second time there is nothing left to do
		dnstest.Eventually(t, "the journal is copied", func() bool { // servers of a new cluster may still elect leaders: then the command is run again, as its error says
			stdout, stderr, code := operatorEnv(t, settings, "journal", "copy")
			if copied = stdout; code != 0 {
				t.Logf("journal copy: exit code %d\n%s%s", code, stdout, stderr)
			}
			return code == 0
		})
	}
	if !strings.Contains(copied, "0 of them were missing") || !strings.Contains(copied, "epoch 1, version ") {
		t.Errorf("the second copy: %s", copied)
	}
	if _, stderr, code := operatorEnv(t, []string{"HOME=" + dir, "REMPART_DATA_DIR=" + data, "REMPART_METRICS_LISTEN=none"}, "control"); code != 2 || !strings.Contains(stderr, "was copied to an external NATS cluster") {
		t.Errorf("a start on the old journal: exit code %d\n%s", code, stderr)
	}

	control = startControl(t, "REMPART_DATA_DIR="+data, listen, "REMPART_NATS_URL="+cluster, "REMPART_NATS_SYSTEM_CREDENTIALS=admin:adm:in")
	if after := must(t, control, ada, "changesets"); after != before {
		t.Errorf("change sets were\n%s\nand are\n%s", before, after)
	}
	if after := apiAnswer(t, control, ada, "/v1/audit?sealed=true"); len(trail) == 0 || !bytes.HasPrefix(after, trail) {
		t.Errorf("the audit trail was\n%s\nand is\n%s", trail, after)
	}
	var now string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("nodes were %s\nand are %s", newest, now)
		}
	})
	dnstest.Eventually(t, "the edge is up to date", func() bool {
		var code int
		now, _, code = operator(t, control, ada, "nodes", "--json")
		return code == 0 && sameNode(now, newest)
	})
	must(t, control, eve, "approve", "popular")
	write(t, list, "more.example")
	must(t, control, ada, "push", list, "--id", "more", "--wait")
	for _, name := range []string{"evil0.example", "evil59.example", "wikipedia.org", "more.example"} {
		if got := address(ask(t, edge, name)); got != page {
			t.Errorf("%s: %s, want the page's address", name, got)
		}
	}
	if strings.Contains(edge.Stderr(), "epoch") && strings.Contains(edge.Stderr(), "level=ERROR") {
		t.Errorf("the edge reports errors:\n%s", edge.Stderr())
	}
	control.Stop(t)
	if stdout, stderr, code := operatorEnv(t, settings, "journal", "copy"); code != 2 || !strings.Contains(stderr, "published there since") {
		t.Errorf("a copy over records that were published since the last copy: exit code %d\n%s%s", code, stdout, stderr)
	}
}

// sameNode reports whether two answers of "rempart nodes --json" show one server of the same epoch and version.
func sameNode(a, b string) bool {
	type nodes struct {
		Nodes []struct {
			Node    string `json:"node"`
			Epoch   uint64 `json:"epoch"`
			Version uint64 `json:"version"`
		} `json:"nodes"`
	}
	var x, y nodes
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && len(x.Nodes) == 1 && len(y.Nodes) == 1 && x.Nodes[0] == y.Nodes[0]
}
