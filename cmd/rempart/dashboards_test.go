package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rempart/internal/dnstest"
)

// dashboard is the part of a Grafana dashboard that the tests read.
type dashboard struct {
	UID, Title string
	Panels     []struct {
		Title, Description string
		Targets            []struct{ Expr string }
	}
}

// dashboards returns the dashboards of deploy/grafana.
func dashboards(t *testing.T) (all []dashboard) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "deploy", "grafana", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboard: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil || d.UID == "" || len(d.Panels) == 0 {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, d)
	}
	return all
}

// TestDashboardsShowData lets a real Prometheus scrape a server, control, a server that follows it, and a canary, and checks that it understands the query of each panel and
// has data for it, unless the panel says when it is empty.
func TestDashboardsShowData(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for scrapes")
	}
	t.Parallel()
	dnstest.Need(t, "prometheus")
	u := dnstest.NewUpstream(t, nil)
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "bad.example", "pages.dev")
	home := start(t, upstreams(u), "REMPART_LISTS="+list)
	control := startControl(t, "REMPART_METRICS_LISTEN=127.0.0.1:0", "REMPART_LISTS="+list, "REMPART_APPEALS="+filepath.Join("..", "..", "deploy", "appeals.toml"))
	edge := startEdge(t, control, "edge", upstreams(u))
	prometheus := startPrometheus(t, home.Metrics, control.Metrics, edge.Metrics, startCanary(t, home))
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() { // some load
		for n := 0; ; n++ {
			for _, p := range []*dnstest.Program{home, edge} {
				for _, name := range []string{"phishing.test", "good.example", fmt.Sprintf("n%d.example", n)} {
					packed, _ := question(name).Pack()
					_, _ = dnstest.ExchangePacked([]string{"udp", "tcp"}[n%2], p.DNS, packed)
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	for _, d := range dashboards(t) {
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				expr := strings.NewReplacer("$__rate_interval", "5s", "$instance", ".*").Replace(target.Expr)
				empty := strings.Contains(panel.Description, "Empty ")
				var n int
				dnstest.Eventually(t, fmt.Sprintf("%s, %s: %s has data", d.Title, panel.Title, expr), func() bool {
					n = promQuery(t, prometheus, expr)
					if n == 0 && !empty {
						time.Sleep(200 * time.Millisecond)
					}
					return n > 0 || empty
				})
			}
		}
	}
}

// startCanary runs a canary that asks p every second, and returns the address of its metrics.
func startCanary(t *testing.T, p *dnstest.Program) (metrics string) {
	t.Helper()
	path, at := filepath.Join(t.TempDir(), "canary.toml"), dnstest.FreeAddr(t)
	write(t, path, fmt.Sprintf("every = '1s'\npassed = ['a.example']\n[[node]]\nname = 'one'\nask = ['udp://%s']\nmetrics = 'http://%s/metrics'\n", p.DNS, p.Metrics))
	dnstest.LaunchProgram(t, exec.Command("rempart", "canary", "--file", path), "REMPART_METRICS_LISTEN="+at)
	return at
}

// startPrometheus runs a Prometheus that scrapes targets every second, and returns its address.
func startPrometheus(t *testing.T, targets ...string) string {
	t.Helper()
	dir, at := t.TempDir(), dnstest.FreeAddr(t)
	config := "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: rempart\n  static_configs:\n  - targets: ['" + strings.Join(targets, "', '") + "']\n"
	write(t, filepath.Join(dir, "prometheus.yml"), strings.TrimSuffix(config, "\n"))
	cmd := exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+dir, "--web.listen-address="+at)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus wrote:\n%s", said.String())
		}
	})
	return at
}

// promQuery returns the number of series with a value that a query has now; NaN is no value.
func promQuery(t *testing.T, at, expr string) int {
	t.Helper()
	res, err := http.Get("http://" + at + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return 0 // it is starting
	}
	defer res.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return 0
	}
	if answer.Status != "success" && res.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("%s: %s", expr, answer.Error)
	}
	series := slices.DeleteFunc(answer.Data.Result, func(r struct{ Value [2]any }) bool { return r.Value[1] == "NaN" })
	return len(series)
}
