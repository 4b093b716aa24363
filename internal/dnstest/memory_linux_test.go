package dnstest

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// flood is one attack, during which the memory of the program is measured.
type flood struct {
	name  string
	limit int // MB that the process may take in addition
	env   []string
	run   func(t *testing.T, a *target)
}

// floods are the attacks in the table of internal/README.md, with the limits given there.
var floods = []flood{
	{"random names of a silent zone", 300, nil, randomNames},
	{"one unanswered question repeatedly", 60, nil, oneQuestion},
	{"connections that read no answer", 200, nil, unreadAnswers},
	{"idle connections", 100, nil, idleConnections},
	{"large answers to many names", 260, []string{"REMPART_CACHE_BYTES=16MiB"}, largeAnswers},
	{"answers to new names", 300, []string{"REMPART_CACHE_BYTES=4MiB"}, newNames},
	{"connections to the page", 40, nil, pageConnections},
}

// TestMemoryUnderAttack floods the program from loopback in the ways that cost it most memory. The memory stays below a limit, and queries are answered
// afterwards.
func TestMemoryUnderAttack(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program and floods it")
	}
	binary := buildProgram(t)
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			a := startTarget(t, binary, f.env)
			before, watch := a.memory(t), a.watch(t)
			f.run(t, a)
			most := watch()
			t.Logf("%d MB before, %d MB at most", before, most)
			if most-before > f.limit {
				t.Errorf("the process took %d MB in addition, the limit is %d MB", most-before, f.limit)
			}
			a.answers(t)
		})
	}
}

// TestMemoryOfHostileList starts the program with a compressed list that repeats one line thirty million times.
func TestMemoryOfHostileList(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program, which reads large lists")
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	line := bytes.Repeat([]byte("evil.example\n"), 100_000)
	for range 300 {
		if _, err := w.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "list.gz")
	if err := os.WriteFile(list, packed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	a := startTarget(t, buildProgram(t), []string{"REMPART_LISTS=" + list})
	a.answers(t)
	if most := a.status(t, "VmHWM"); most > 450 {
		t.Errorf("the process took %d MB", most)
	}
}

// target is the program that is flooded. Its upstream does not answer names below silent.example, answers names below large.example with 60 KB, and all other
// names with an address.
type target struct {
	*Program
	upstream *Upstream
}

func startTarget(t *testing.T, binary string, env []string) *target {
	t.Helper()
	return startTargetBy(t, exec.Command(binary), env)
}

func startTargetBy(t *testing.T, program *exec.Cmd, env []string) *target {
	t.Helper()
	texts := make([]dns.RR, 240)
	for i := range texts {
		texts[i] = &dns.TXT{Hdr: dns.RR_Header{Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 300}, Txt: []string{fmt.Sprintf("%0250d", i)}}
	}
	up := NewUpstream(t, func(q *Query) {
		name := q.Msg.Question[0].Name
		m := q.Reply(dns.RcodeSuccess)
		switch {
		case strings.HasSuffix(name, ".silent.example."):
			return
		case strings.HasSuffix(name, ".large.example.") && q.Network == "udp":
			m.Truncated = true
		case strings.HasSuffix(name, ".large.example."):
			for _, rr := range texts {
				rr := dns.Copy(rr)
				rr.Header().Name = name
				m.Answer = append(m.Answer, rr)
			}
		default:
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}, A: net.ParseIP(originAddr)})
		}
		q.Send(m)
	})
	return &target{StartProgram(t, program, append([]string{"REMPART_UPSTREAMS=udp://" + up.Addr.String()}, env...)...), up}
}

// status returns the number of MB in a line of /proc/PID/status.
func (a *target) status(t testing.TB, field string) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.cmd.Process.Pid))
	if err != nil {
		t.Error(err)
		return 0
	}
	kilobytes, _ := strconv.Atoi(first(regexp.MustCompile(`(?m)^`+field+`:\s+(\d+) kB`), string(b)))
	return kilobytes >> 10
}

func (a *target) memory(t testing.TB) int { return a.status(t, "RssAnon") }

// watch measures the memory of the process until the returned function is called, which returns the maximum.
func (a *target) watch(t testing.TB) func() int {
	return a.watchMost(func() int { return a.memory(t) })
}

// watchMost calls look every 20 ms until the returned function is called, which returns the maximum.
func (a *target) watchMost(look func() int) func() int {
	ended, result := make(chan struct{}), make(chan int)
	go func() {
		most := 0
		for {
			most = max(most, look())
			select {
			case <-ended:
				result <- most
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() int {
		close(ended)
		return <-result
	}
}

// answers waits until a name is resolved.
func (a *target) answers(t *testing.T) {
	t.Helper()
	n := 0
	Eventually(t, "a name is resolved after the attack", func() bool {
		n++
		m := new(dns.Msg).SetQuestion(fmt.Sprintf("good%d.example.", n), dns.TypeA)
		packed, _ := m.Pack()
		conn, err := net.Dial("udp", a.DNS)
		if err != nil {
			return false
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Second)) // the queue of the socket may still be full
		answer, err := exchangeDatagram(conn, packed)
		return err == nil && m.Unpack(answer) == nil && len(m.Answer) == 1
	})
}

// packets sends queries over UDP for three seconds, and reads the answers.
func packets(t *testing.T, a *target, typ uint16, name func(i int) string) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var clients sync.WaitGroup
	for c := range 4 {
		from := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 7, byte(1+c))}}
		conn, err := from.Dial("udp4", a.DNS)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		clients.Go(func() { _, _ = io.Copy(io.Discard, conn) })
		clients.Go(func() {
			defer conn.Close()
			for i := c; ctx.Err() == nil; i += 4 {
				packed, err := new(dns.Msg).SetQuestion(name(i), typ).Pack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = conn.Write(packed) // fails if the queue is full, which does not matter
				if i%64 < 4 {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	clients.Wait()
}

func randomNames(t *testing.T, a *target) {
	packets(t, a, dns.TypeA, func(i int) string { return fmt.Sprintf("n%d.silent.example.", i) })
}

func oneQuestion(t *testing.T, a *target) {
	packets(t, a, dns.TypeA, func(int) string { return "one.silent.example." })
}

func newNames(t *testing.T, a *target) {
	packets(t, a, dns.TypeA, func(i int) string { return fmt.Sprintf("n%d.answered.example.", i) })
}

// streams opens connections from several addresses, and calls use with each of them.
func streams(t *testing.T, to string, clients, each int, use func(conn net.Conn, i int)) {
	t.Helper()
	for i := range clients * each {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 8, byte(1+i/each))}, Timeout: 10 * time.Second}
		conn, err := from.Dial("tcp4", to)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		t.Cleanup(func() { conn.Close() })
		use(conn, i)
	}
}

// frame returns a query of type TXT with its length before it.
func frame(name string) []byte {
	packed, _ := new(dns.Msg).SetQuestion(name, dns.TypeTXT).Pack()
	return Framed(packed)
}

func unreadAnswers(t *testing.T, a *target) {
	queries := bytes.Repeat(frame("one.large.example."), 100)
	streams(t, a.DNS, 8, 200, func(conn net.Conn, _ int) {
		_ = conn.(*net.TCPConn).SetReadBuffer(4096)
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write(queries) // fails once the server reads no more
	})
	time.Sleep(time.Second)
}

func idleConnections(t *testing.T, a *target) {
	streams(t, a.DNS, 8, 250, func(conn net.Conn, _ int) { _, _ = conn.Write(frame("one.example.")) })
	time.Sleep(time.Second)
}

func pageConnections(t *testing.T, a *target) {
	streams(t, a.Page, 8, 200, func(conn net.Conn, _ int) { _, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n") })
	time.Sleep(time.Second)
}

func largeAnswers(t *testing.T, a *target) {
	var clients sync.WaitGroup
	streams(t, a.DNS, 8, 10, func(conn net.Conn, c int) {
		clients.Go(func() { _, _ = io.Copy(io.Discard, conn) })
		clients.Go(func() {
			_ = conn.SetDeadline(time.Now().Add(4 * time.Second))
			for i := range 200 {
				if _, err := conn.Write(frame(fmt.Sprintf("n%d-%d.large.example.", c, i))); err != nil {
					return
				}
			}
		})
	})
	clients.Wait()
}

// TestNamesAreResolvedWithFewDescriptors starts the program with a limit of 600 files and sockets. Attackers hold all the connections that they can get to DNS,
// the page and the metrics, and ask for names that nobody answers. Other names are still resolved, over UDP and TCP.
func TestNamesAreResolvedWithFewDescriptors(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program and floods it")
	}
	a := startTargetBy(t, exec.Command("sh", "-c", "ulimit -n 600 && exec "+buildProgram(t)), nil)
	hold := func(to, what string) {
		streams(t, to, 8, 100, func(conn net.Conn, _ int) { _, _ = io.WriteString(conn, what) })
	}
	hold(a.Page, "GET / HTTP/1.1\r\n")
	hold(a.Metrics, "GET / HTTP/1.1\r\n")
	hold(a.DNS, "\x00")
	most := a.watchMost(func() int {
		open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.cmd.Process.Pid))
		return len(open)
	})
	packets(t, a, dns.TypeA, func(i int) string { return fmt.Sprintf("n%d.silent.example.", i) })
	if n := most(); n > 540 || n < 200 {
		t.Errorf("%d files and sockets were open: each kind of connection must leave some for the others", n)
	}
	a.answers(t)
	for i := range 20 {
		m := new(dns.Msg).SetQuestion(fmt.Sprintf("other%d.example.", i), dns.TypeA)
		if answer := Exchange(t, "tcp", a.DNS, m); answer.Rcode != dns.RcodeSuccess {
			t.Errorf("over TCP: %v", answer)
		}
	}
}
