// Command start measures how long rempart takes to start and to apply a changed list. It starts the program from text lists alone, starts
// it again with the data folder of the first run, and then replaces one listed name in a hundred while the program serves. In each
// of these steps it queries a listed name until the name is blocked.
//
//	go build -o /tmp/rempart ./cmd/rempart && go run ./bench/start -rempart /tmp/rempart
//
// Package bench documents where the listed names are from. Linux only: memory is read from /proc.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"rempart/bench"
)

type options struct {
	program string
	cpus    string
	lists   int
	sizes   []int
}

func main() {
	var o options
	sizes := flag.String("listed", "1000000", "how many names, separated by commas")
	flag.StringVar(&o.program, "rempart", "", "the program to measure")
	flag.StringVar(&o.cpus, "cpus", "0", "the cores that the program may use, in the syntax of taskset")
	flag.IntVar(&o.lists, "lists", 1, "the number of lists; the first of several holds two fifths of the names")
	flag.Parse()
	for text := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1000 || o.lists < 1 {
			fmt.Fprintln(os.Stderr, "start: -listed accepts numbers of at least 1000, -lists a number of at least 1")
			os.Exit(2)
		}
		o.sizes = append(o.sizes, n)
	}
	fmt.Println("| names | step | first blocked answer after | resident at that time | peak | at rest |\n|---|---|---|---|---|---|")
	for _, n := range o.sizes {
		if err := measure(o, n); err != nil {
			fmt.Fprintln(os.Stderr, "start:", err)
			os.Exit(1)
		}
	}
}

// measure measures a start with n names, a restart, and a change.
func measure(o options, n int) error {
	dir, err := os.MkdirTemp("", "rempart-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	names, err := bench.Blocked(n)
	if err != nil {
		return err
	}
	fresh := make([]string, n/100) // not below a listed name
	for i := range fresh {
		fresh[i] = fmt.Sprintf("fresh-%x.example", uint32(i)*2654435761)
	}
	lists, err := writeLists(dir, names, o.lists)
	if err != nil {
		return err
	}
	last := names[n-1] // the last name of the last list: when it is blocked, all names are
	const restart = "from the snapshot"
	for _, step := range []string{fmt.Sprintf("from %d text lists", o.lists), restart} {
		s, err := launch(o, dir, lists)
		if err != nil {
			return err
		}
		if err := s.waitUntilBlocked(last); err != nil {
			return errors.Join(err, s.stop())
		}
		s.report(n, step)
		if step == restart {
			err = s.change(n, lists[len(lists)-1], fresh)
		}
		if err := errors.Join(err, s.stop()); err != nil {
			return err
		}
	}
	return nil
}

// writeLists writes names to that number of lists: two fifths to the first of several, the rest in equal parts to the others.
func writeLists(dir string, names []string, lists int) (paths []string, err error) {
	for i := range lists {
		share := len(names) / (lists - i)
		if i == 0 && lists > 1 {
			share = len(names) * 2 / 5
		}
		path := filepath.Join(dir, fmt.Sprintf("list%d.txt", i))
		old := time.Now().Add(-time.Hour) // a file that changed just before the start is read again at the next start
		if err := errors.Join(bench.WriteLines(path, names[:share], ""), os.Chtimes(path, old, old)); err != nil {
			return nil, err
		}
		paths, names = append(paths, path), names[share:]
	}
	return paths, nil
}

// server is the measured program.
type server struct {
	cmd   *exec.Cmd
	addr  string
	began time.Time
	ready time.Duration
}

func launch(o options, dir string, lists []string) (*server, error) {
	addr, err := bench.FreeAddr()
	if err != nil {
		return nil, err
	}
	s := &server{addr: addr}
	s.cmd = exec.Command("taskset", "-c", o.cpus, o.program)
	s.cmd.Env = bench.Environ(fmt.Sprintf("GOMAXPROCS=%d", 1+strings.Count(o.cpus, ",")), "REMPART_LISTEN="+s.addr, "REMPART_UPSTREAMS=udp://127.0.0.1:9",
		"REMPART_LISTS="+strings.Join(lists, ","), "REMPART_DATA_DIR="+filepath.Join(dir, "data"), "REMPART_PAGE_LISTEN=none",
		"REMPART_METRICS_LISTEN=none", "REMPART_PAGE_IPV4=192.0.2.66")
	s.began = time.Now()
	return s, s.cmd.Start()
}

// waitUntilBlocked queries name until it is blocked, for at most two minutes, and stores the time in s.ready.
func (s *server) waitUntilBlocked(name string) error {
	c := dns.Client{Timeout: 100 * time.Millisecond}
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	for time.Since(s.began) < 2*time.Minute {
		if a, _, err := c.Exchange(m, s.addr); err == nil && len(a.Answer) == 1 {
			s.ready = time.Since(s.began)
			return nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return fmt.Errorf("%s was not blocked within two minutes", name)
}

// report prints one row of the table. Memory "at rest" is read two seconds later, when the program has read every page of the set to verify
// its checksum.
func (s *server) report(n int, step string) {
	resident := bench.Memory(s.cmd.Process.Pid, "VmRSS")
	time.Sleep(2 * time.Second)
	fmt.Printf("| %d | %s | %.3f s | %d MB | %d MB | %d MB |\n", n, step, s.ready.Seconds(), resident, bench.Memory(s.cmd.Process.Pid, "VmHWM"), bench.Memory(s.cmd.Process.Pid, "VmRSS"))
}

// change replaces the first names of a list by fresh ones, and measures the time until the first of these is blocked.
func (s *server) change(n int, list string, fresh []string) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	lines := strings.SplitN(string(text), "\n", len(fresh)+1)
	s.began = time.Now()
	before := bench.Memory(s.cmd.Process.Pid, "VmRSS")
	// Reset the peak.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0o644); err != nil {
		return err
	}
	temp := list + ".new"
	if err := os.WriteFile(temp, []byte(strings.Join(fresh, "\n")+"\n"+lines[len(fresh)]), 0o644); err != nil {
		return err
	}
	if err := os.Rename(temp, list); err != nil {
		return err
	}
	if err := s.waitUntilBlocked(fresh[0]); err != nil {
		return err
	}
	s.report(n, fmt.Sprintf("one in a hundred replaced (peak: %d MB more than before)", bench.Memory(s.cmd.Process.Pid, "VmHWM")-before))
	return nil
}

func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.cmd.Wait()
}
