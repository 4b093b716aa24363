package main

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"rempart/internal/dnstest"
)

// questioners are some clients of a program that ask for one name after the other, until stop. Each of them must get an answer to every query.
type questioners struct {
	t       *testing.T
	p       *dnstest.Program
	clients sync.WaitGroup
	over    atomic.Bool

	mu    sync.Mutex
	asked []asked
}

// asked is a query of questioners and its result.
type asked struct {
	at   time.Time
	took time.Duration
	good bool // the answer has an address, else it is SERVFAIL with an extended error
}

// startQuestioners starts clients that ask for new names below zone. They end with the test.
func startQuestioners(t *testing.T, p *dnstest.Program, zone string, clients int) *questioners {
	t.Helper()
	return startQuestionersFor(t, p, clients, func(c, i int) string { return fmt.Sprintf("n%d-%d.%s", c, i, zone) })
}

// startQuestionersFor starts clients whose i-th query is for name(client, i). They end with the test.
func startQuestionersFor(t *testing.T, p *dnstest.Program, clients int, name func(c, i int) string) *questioners {
	t.Helper()
	l := &questioners{t: t, p: p}
	for c := range clients {
		l.clients.Go(func() {
			for i := 0; !l.over.Load(); i++ {
				l.ask(name(c, i))
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

// stop ends the clients, after the answers to their last queries.
func (l *questioners) stop() {
	l.over.Store(true)
	l.clients.Wait()
}

func (l *questioners) ask(name string) {
	q := question(name)
	packed, err := q.Pack()
	if err != nil {
		l.t.Error(err)
		return
	}
	a := asked{at: time.Now()}
	raw, err := dnstest.ExchangePacked("udp", l.p.DNS, packed)
	a.took = time.Since(a.at)
	m := new(dns.Msg)
	switch {
	case err != nil:
		l.t.Errorf("%s got no answer: %v", name, err)
	case m.Unpack(raw) != nil || m.Id != q.Id || m.Question[0] != q.Question[0]:
		l.t.Errorf("%s got a wrong answer: %v", name, m)
	case address(m) == origin:
		a.good = true
	case m.Rcode != dns.RcodeServerFailure || len(errorsOf(m)) == 0:
		l.t.Errorf("%s got neither an address nor SERVFAIL with an extended error: %v", name, m)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, a)
}

// between counts the queries that were asked in a period and their good answers.
func (l *questioners) between(from, to time.Time) (queries, good int, longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.asked {
		if a.at.Before(from) || a.at.After(to) {
			continue
		}
		queries++
		if a.good {
			good++
		}
		longest = max(longest, a.took)
	}
	return queries, good, longest
}

// waitForGood waits until n queries in a row that were asked after from have good answers, and returns the time from from until the answer to the first of them.
func (l *questioners) waitForGood(from time.Time, n int) (after time.Duration) {
	l.t.Helper()
	dnstest.Eventually(l.t, "good answers", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		row := 0
		for _, a := range l.asked {
			switch {
			case a.at.Before(from):
			case !a.good:
				row = 0
			default:
				if row++; row == 1 {
					after = a.at.Add(a.took).Sub(from)
				}
			}
			if row >= n {
				return true
			}
		}
		return false
	})
	return after
}

// serveUDP answers queries that arrive at addr over UDP, until stop is called or the test ends.
func serveUDP(t *testing.T, addr string) (stop func()) {
	t.Helper()
	var conn net.PacketConn
	dnstest.Eventually(t, "the port is free", func() (ok bool) { // a process that is just being started may hold a copy of a closed socket
		var err error
		conn, err = net.ListenPacket("udp4", addr)
		return err == nil
	})
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.RecursionAvailable = true
		if q.IsEdns0() != nil {
			m.SetEdns0(1232, false)
		}
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}, A: net.ParseIP(origin)})
		}
		_ = w.WriteMsg(m)
	})}
	started, done := make(chan bool), make(chan bool)
	s.NotifyStartedFunc = func() { close(started) }
	go func() {
		defer close(done)
		_ = s.ActivateAndServe()
	}()
	<-started
	stop = sync.OnceFunc(func() {
		_ = s.Shutdown()
		<-done
	})
	t.Cleanup(stop)
	return stop
}

// TestUpstreamRestarts closes the socket of the only upstream for some time, during which the system refuses queries to it by ICMP, and opens the socket
// again. Every query is answered, and with an address soon after the restart.
func TestUpstreamRestarts(t *testing.T) {
	t.Parallel()
	addr := dnstest.FreeAddr(t)
	stop := serveUDP(t, addr)
	p := start(t, "REMPART_UPSTREAMS=udp://"+addr)
	l := startQuestioners(t, p, "example", 8)
	l.waitForGood(time.Now(), 100)
	for range 2 {
		down := time.Now()
		stop()
		time.Sleep(2 * time.Second)
		ask(t, p, "same.example") // its failure is cached for a short time
		up := time.Now()
		stop = serveUDP(t, addr)
		dnstest.Eventually(t, "the name that failed is answered", func() bool { return address(ask(t, p, "same.example")) == origin })
		same := time.Since(up)
		after := l.waitForGood(up, 100)
		queries, good, longest := l.between(down, up)
		t.Logf("stopped for %v: %d queries, %d good, longest answer %v; the first good answer %v after the restart, %v for a name that had failed", up.Sub(down), queries, good, longest, after, same)
		if after > 20*time.Second {
			t.Errorf("the first good answer arrived %v after the restart", after)
		}
	}
}

// TestUpstreamIsSuspendedAndContinues suspends the process of the only upstream, and continues it, so that it answers everything late. Every query is
// answered, and with an address soon after that.
func TestUpstreamIsSuspendedAndContinues(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	via := start(t, upstreams(u), "REMPART_LISTS=none")
	p := start(t, "REMPART_UPSTREAMS=udp://"+via.DNS, "REMPART_LISTS=none")
	l := startQuestioners(t, p, "example", 200)
	l.waitForGood(time.Now(), 100)
	stopped := time.Now()
	via.Signal(t, syscall.SIGSTOP)
	t.Cleanup(func() { via.Signal(t, syscall.SIGCONT) })
	time.Sleep(6 * time.Second)
	continued := time.Now()
	via.Signal(t, syscall.SIGCONT)
	after := l.waitForGood(continued, 100)
	queries, good, longest := l.between(stopped, continued)
	t.Logf("suspended for %v: %d queries, %d good, longest answer %v; the first of 100 good answers in a row %v after the upstream continued", continued.Sub(stopped), queries, good, longest, after)
	if after > 20*time.Second {
		t.Errorf("good answers began %v after the upstream continued", after)
	}
}

// TestLimitOfDescriptorsIsReached lowers the limit of open files and sockets of the running program until no socket can be opened. Questions over the open
// sockets are answered, those that need a further socket fail with an extended error, the upstream stays in use, and one log line says that the limit was
// reached.
func TestLimitOfDescriptorsIsReached(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if strings.HasSuffix(strings.ToLower(q.Msg.Question[0].Name), ".large.example.") {
			dnstest.Truncate(dnstest.Answer("@ 300 IN A " + origin))(q) // the question is asked again over TCP
			return
		}
		dnstest.Answer("@ 300 IN A " + origin)(q)
	})
	p := start(t, upstreams(u))
	small := startQuestioners(t, p, "example", 8)
	small.waitForGood(time.Now(), 100)
	var limit unix.Rlimit
	if err := unix.Prlimit(p.PID(), unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	reached := time.Now()
	if err := unix.Prlimit(p.PID(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}, nil); err != nil {
		t.Fatal(err)
	}
	large := startQuestioners(t, p, "large.example", 8)
	const line = "the limit of open files and sockets is reached"
	dnstest.Eventually(t, "the log says that the limit was reached", func() bool { return strings.Contains(p.Stderr(), line) })
	var stream sync.WaitGroup
	stream.Go(func() { // the system accepts the connection, and the program does later
		if got := address(dnstest.Exchange(t, "tcp", p.DNS, question("stream.example"))); got != origin {
			t.Errorf("over TCP: %s, want %s", got, origin)
		}
	})
	time.Sleep(2 * time.Second)
	free := time.Now()
	if err := unix.Prlimit(p.PID(), unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	after := large.waitForGood(free, 100)
	stream.Wait()
	small.stop()
	large.stop()
	queries, good, longest := small.between(reached, free)
	needy, served, longestNeedy := large.between(reached, free)
	t.Logf("without descriptors: %d of %d questions over open sockets answered, longest %v; %d of %d that need another socket, longest %v; good answers %v after descriptors were free",
		good, queries, longest, served, needy, longestNeedy, after)
	if good < queries*95/100 {
		t.Errorf("%d of %d questions over open sockets were answered, want at least 95 %%", good, queries)
	}
	if needy-served == 0 {
		t.Error("every question that needs another socket was answered: this test checks nothing")
	}
	if after > 20*time.Second {
		t.Errorf("good answers began %v after descriptors were free", after)
	}
	for _, line := range []string{line, "a TCP connection could not be accepted"} {
		if n := strings.Count(p.Stderr(), line); n != 1 {
			t.Errorf("%d log lines say %q, want one", n, line)
		}
	}
	if m := regexp.MustCompile(line + `.*LimitNOFILE= in the unit, or ulimit -n`); !m.MatchString(p.Stderr()) {
		t.Error("the log line does not say how to raise the limit")
	}
	if _, metrics := get(t, p, "/metrics"); regexp.MustCompile(`rempart_upstream_failures_total\{kind="unreachable".*\} [1-9]`).MatchString(metrics) ||
		!regexp.MustCompile(`rempart_upstream_failures_total\{kind="local".*\} [1-9]`).MatchString(metrics) {
		t.Errorf("want failures of the kind local, and none of the kind unreachable:\n%s", metrics)
	}
}
