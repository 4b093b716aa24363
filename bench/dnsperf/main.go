// Command dnsperf measures a whole rempart under load on loopback: it starts the program on one core and
// the load generator dnsperf (Debian's package of that name) on another, and prints queries per
// second and the server's CPU time a query, as the median of several runs.
//
// With -echo, a program that answers every query with itself is measured first: the floor.
//
//	go build -o /tmp/rempart ./cmd/rempart && go build -o /tmp/echo ./bench/echo
//	go run ./bench/dnsperf -rempart /tmp/rempart -echo /tmp/echo
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"rempart/bench"
)

type options struct {
	program string
	echo    string
	seconds int
	runs    int
	listed  int
	hot     int
}

func main() {
	var o options
	flag.StringVar(&o.program, "rempart", "", "the program to measure")
	flag.StringVar(&o.echo, "echo", "", "the program of bench/echo, measured first")
	flag.IntVar(&o.seconds, "seconds", 10, "length of a run, 30 at most")
	flag.IntVar(&o.runs, "runs", 3, "runs of each load, 20 at most")
	flag.IntVar(&o.listed, "listed", 1_000_000, "names on the list")
	flag.IntVar(&o.hot, "hot", 10_000, "distinct names of the cached and blocked loads")
	flag.Parse()
	o.seconds, o.runs = min(o.seconds, 30), min(o.runs, 20)
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "dnsperf:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if _, err := exec.LookPath("dnsperf"); err != nil {
		return errors.New("dnsperf is not installed (apt-get install dnsperf)")
	}
	dir, err := os.MkdirTemp("", "rempart-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	blocked, err := bench.Blocked(o.listed)
	if err != nil {
		return err
	}
	popular, err := bench.Popular(o.hot)
	if err != nil {
		return err
	}
	list := filepath.Join(dir, "list.txt")
	if err := bench.WriteLines(list, blocked, ""); err != nil {
		return err
	}
	loads := []struct{ name, file string }{
		{"cached", filepath.Join(dir, "cached")}, {"blocked", filepath.Join(dir, "blocked")},
		{"blocked, all names distinct", filepath.Join(dir, "distinct")},
	}
	shuffled := slices.Clone(blocked)
	rand.New(rand.NewPCG(7, 7)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for i, names := range [][]string{popular, blocked[:min(o.hot, len(blocked))], shuffled} {
		if err := bench.WriteLines(loads[i].file, names, " A"); err != nil {
			return err
		}
	}
	upstream, stop, err := answerAll()
	if err != nil {
		return err
	}
	defer stop()
	// Twice: from the list alone, and from what the first left in its data folder.
	var s *server
	for _, from := range []string{"one text list", "the snapshot"} {
		if s != nil {
			s.stop()
		}
		if s, err = start(o, dir, list, upstream); err != nil {
			return err
		}
		time.Sleep(time.Second) // what reading took is given back meanwhile
		fmt.Printf("%d names from %s: answering after %.2f s, resident %d MB, peak %d MB\n", o.listed, from, s.ready.Seconds(), bench.Memory(s.cmd.Process.Pid, "VmRSS"), bench.Memory(s.cmd.Process.Pid, "VmHWM"))
	}
	defer func() { s.stop() }()
	fmt.Println()
	fmt.Printf("| load | queries/s | CPU µs a query | lost |\n|---|---|---|---|\n")
	if o.echo != "" {
		if err := measureEcho(o, loads[1].file); err != nil {
			return err
		}
	}
	if err := s.warm(loads[0].file); err != nil {
		return err
	}
	for _, l := range loads {
		if err := s.measure(o, l.name, l.file); err != nil {
			return err
		}
	}
	fmt.Printf("\nresident %d MB at the end\n", bench.Memory(s.cmd.Process.Pid, "VmRSS"))
	return nil
}

// answerAll is an upstream on loopback that knows one address for every name.
func answerAll() (addr string, stop func(), err error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		a := new(dns.Msg).SetReply(m)
		if m.Question[0].Qtype == dns.TypeA {
			a.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 3600}, A: net.IPv4(192, 0, 2, 1)}}
		}
		_ = w.WriteMsg(a)
	})}
	go func() { _ = s.ActivateAndServe() }()
	return conn.LocalAddr().String(), func() { _ = s.Shutdown() }, nil
}

// server is the program under measure, pinned to core 0.
type server struct {
	cmd   *exec.Cmd
	addr  string
	ready time.Duration
}

func start(o options, dir, list, upstream string) (*server, error) {
	addr, err := bench.FreeAddr()
	if err != nil {
		return nil, err
	}
	s := &server{addr: addr}
	s.cmd = exec.Command("taskset", "-c", "0", o.program)
	s.cmd.Env = bench.Environ("GOMAXPROCS=1", "REMPART_LISTEN="+s.addr, "REMPART_UPSTREAMS=udp://"+upstream, "REMPART_LISTS="+list,
		"REMPART_DATA_DIR="+filepath.Join(dir, "data"), "REMPART_PAGE_LISTEN=none", "REMPART_METRICS_LISTEN=none", "REMPART_PAGE_IPV4=192.0.2.66")
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	m := new(dns.Msg).SetQuestion("phishing.test.", dns.TypeA)
	for time.Since(began) < time.Minute {
		if a, err := dns.Exchange(m, s.addr); err == nil && len(a.Answer) == 1 {
			s.ready = time.Since(began)
			return s, nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.stop()
	return nil, errors.New("rempart did not answer within a minute")
}

// measureEcho measures the floor: the same sockets, and nothing done with a query.
func measureEcho(o options, file string) error {
	addr, err := bench.FreeAddr()
	if err != nil {
		return err
	}
	s := &server{addr: addr}
	s.cmd = exec.Command("taskset", "-c", "0", o.echo, s.addr)
	s.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	if err := s.cmd.Start(); err != nil {
		return err
	}
	defer s.stop()
	time.Sleep(200 * time.Millisecond)
	return s.measure(o, "echo (the sockets alone)", file)
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
}

// cpu is the process's time on the processor, user and system, at the kernel's 100 ticks a second.
func (s *server) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// warm has every cached name asked once.
func (s *server) warm(file string) error {
	_, _, err := s.load(file, "-n", "2", "-l", "20")
	return err
}

var figures = regexp.MustCompile(`(?m)^\s*Queries (completed|lost|sent):\s+(\d+)`)

// load runs dnsperf once, pinned to core 1.
func (s *server) load(file string, args ...string) (completed, lost int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return 0, 0, err
	}
	all := append([]string{"-c", "1", "dnsperf", "-s", host, "-p", port, "-d", file, "-c", "10", "-T", "1", "-q", "200", "-t", "2"}, args...)
	out, err := exec.CommandContext(ctx, "taskset", all...).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("running dnsperf: %w", err)
	}
	for _, m := range figures.FindAllSubmatch(out, -1) {
		n, _ := strconv.Atoi(string(m[2]))
		switch string(m[1]) {
		case "completed":
			completed = n
		case "lost":
			lost = n
		}
	}
	if completed == 0 {
		return 0, 0, errors.New("dnsperf completed no query")
	}
	return completed, lost, nil
}

// measure prints one row: medians, and the least and most.
func (s *server) measure(o options, name, file string) error {
	var rates, costs []float64
	lost := 0
	for range o.runs {
		before, err := s.cpu()
		if err != nil {
			return err
		}
		began := time.Now()
		args := []string{"-l", strconv.Itoa(o.seconds)}
		if strings.Contains(name, "distinct") {
			args = append(args, "-n", "1") // each name once, however long it takes
		}
		n, l, err := s.load(file, args...)
		if err != nil {
			return err
		}
		after, err := s.cpu()
		if err != nil {
			return err
		}
		lost += l
		rates = append(rates, float64(n)/time.Since(began).Seconds())
		costs = append(costs, float64((after-before).Microseconds())/float64(n))
	}
	slices.Sort(rates)
	slices.Sort(costs)
	mid := o.runs / 2
	fmt.Printf("| %s | %.0f (%.0f to %.0f) | %.2f (%.2f to %.2f) | %d |\n", name,
		rates[mid], rates[0], rates[o.runs-1], costs[mid], costs[0], costs[o.runs-1], lost)
	return nil
}
