package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"

	"rempart/internal/dnstest"
)

// TestMain runs the program if the test binary is executed under the name rempart, so that the program has the race detector if the tests have it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rempart": main, "nats-member": serveNATS})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: filepath.Join("testdata", "script"), RequireExplicitExec: true})
}

// start runs the program until the test ends, and checks that it ends in order.
func start(t *testing.T, env ...string) *dnstest.Program {
	t.Helper()
	return dnstest.StartProgram(t, exec.Command("rempart"), env...)
}

// longTests is the variable with which long tests run at full length.
const longTests = "REMPART_LONG_TESTS"

func upstreams(u *dnstest.Upstream) string { return "REMPART_UPSTREAMS=udp://" + u.Addr.String() }

// question returns a query for A of name with EDNS, so that answers contain extended errors.
func question(name string) *dns.Msg {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	m.SetEdns0(1232, false)
	return m
}

func ask(t testing.TB, p *dnstest.Program, name string) *dns.Msg {
	t.Helper()
	return dnstest.Exchange(t, "udp", p.DNS, question(name))
}

// get requests a path from the listener of the metrics.
func get(t testing.TB, p *dnstest.Program, path string) (code int, body string) {
	t.Helper()
	return fetch(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}, "http://"+p.Metrics+path)
}

// fetch returns the status and the body of the resource at a URL.
func fetch(t testing.TB, client *http.Client, address string) (status int, body string) {
	t.Helper()
	res, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// page is the address in the answer to a blocked name, and origin is the address in the answers of an Upstream.
const (
	page   = "127.0.0.1"
	origin = "192.0.2.1"
)

// address returns the only A record of an answer, or else its rcode.
func address(m *dns.Msg) string {
	if m.Rcode == dns.RcodeSuccess && len(m.Answer) == 1 {
		if a, ok := m.Answer[0].(*dns.A); ok {
			return a.A.String()
		}
	}
	return dns.RcodeToString[m.Rcode]
}

// errorsOf returns the extended errors in an answer.
func errorsOf(m *dns.Msg) (codes []uint16) {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				codes = append(codes, e.InfoCode)
			}
		}
	}
	return codes
}

// write replaces a file by a rename, as a list is usually renewed.
func write(t testing.TB, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
