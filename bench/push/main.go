// Command push measures how long an operator's change takes from the API's answer to a blocked answer on every server: it starts a control with
// a list of names, servers that follow it, and a load of queries on each, and then pushes names one by one, and many at once.
//
//	go build -o /tmp/rempart ./cmd/rempart && go run ./bench/push -rempart /tmp/rempart -listed 10000000
//
// Package bench documents where the listed names are from. Linux only: memory is read from /proc.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rempart/bench"
)

type options struct {
	program string
	listed  int
	edges   int
	pushes  int
	bulk    int
	rate    int
}

func main() {
	var o options
	flag.StringVar(&o.program, "rempart", "", "the program to measure")
	flag.IntVar(&o.listed, "listed", 100_000, "names in control's list")
	flag.IntVar(&o.edges, "edges", 3, "servers")
	flag.IntVar(&o.pushes, "pushes", 200, "names pushed one by one")
	flag.IntVar(&o.bulk, "bulk", 1_000_000, "names pushed at once, as NDJSON; 0 for none")
	flag.IntVar(&o.rate, "rate", 2000, "queries a second on each server meanwhile")
	flag.Parse()
	if o.program == "" || o.edges < 1 || o.pushes < 1 || o.listed < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := measure(o); err != nil {
		fmt.Fprintln(os.Stderr, "push:", err)
		os.Exit(1)
	}
}

func measure(o options) (err error) {
	dir, err := os.MkdirTemp("", "rempart-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	names, err := bench.Blocked(o.listed)
	if err != nil {
		return err
	}
	list := filepath.Join(dir, "list.txt")
	old := time.Now().Add(-time.Hour)
	if err := errors.Join(bench.WriteLines(list, names, ""), os.Chtimes(list, old, old)); err != nil {
		return err
	}
	upstream, err := serveUpstream()
	if err != nil {
		return err
	}
	defer upstream.Close()
	f := &fleet{options: o, dir: dir, upstream: upstream.LocalAddr().String()}
	defer func() { err = errors.Join(err, f.stop()) }()
	began := time.Now()
	if err := f.startControl(list); err != nil {
		return err
	}
	for range o.edges {
		if err := f.startEdge(); err != nil {
			return err
		}
	}
	if err := f.untilBlocked(names[len(names)-1], 5*time.Minute); err != nil {
		return err
	}
	fmt.Printf("%d servers with %d names, %.1f s after control was begun\n", o.edges, o.listed, time.Since(began).Seconds())
	f.load()
	if err := f.pushOneByOne(); err != nil {
		return err
	}
	if o.bulk > 0 {
		if err := f.pushAtOnce(); err != nil {
			return err
		}
	}
	f.endLoad()
	return nil
}

// pushOneByOne pushes names and reports how long each took to be blocked, on one server and on all.
func (f *fleet) pushOneByOne() error {
	var one, all []time.Duration
	for i := range f.pushes {
		name := fmt.Sprintf("pushed%d-%x.example", i, uint32(i)*2654435761)
		blocked := make(chan time.Time, len(f.edges))
		failed := make(chan error, len(f.edges))
		for _, e := range f.edges {
			go func() {
				at, err := e.blockedAt(name, 30*time.Second)
				if err != nil {
					failed <- err
					return
				}
				blocked <- at
			}()
		}
		answered, err := f.push("application/json", "", []byte(fmt.Sprintf(`{"changes":[{"name":%q,"category":"phishing"}]}`, name)))
		if err != nil {
			return err
		}
		slowest := time.Duration(0)
		for range f.edges {
			select {
			case at := <-blocked:
				took := max(0, at.Sub(answered))
				one, slowest = append(one, took), max(slowest, took)
			case err := <-failed:
				return err
			}
		}
		all = append(all, slowest)
		time.Sleep(60 * time.Millisecond) // the API allows 20 calls per second with one token
	}
	fmt.Printf("one name pushed, %d times, from the API's answer to a blocked answer: on one server p50 %v p99 %v; on all of them p50 %v p99 %v, slowest %v\n",
		f.pushes, share(one, 50), share(one, 99), share(all, 50), share(all, 99), share(all, 100))
	return nil
}

func share(d []time.Duration, percent int) time.Duration {
	slices.Sort(d)
	return d[min(len(d)-1, len(d)*percent/100)].Round(100 * time.Microsecond)
}

// pushAtOnce pushes many names in one upload.
func (f *fleet) pushAtOnce() error {
	body := make([]byte, 0, f.bulk*60)
	last := ""
	for i := range f.bulk {
		last = fmt.Sprintf("bulk%x.example", uint32(i)*2654435761)
		body = fmt.Appendf(body, `{"do":"block","name":%q,"category":"scam"}`+"\n", last)
	}
	f.clearPeaks()
	began := time.Now()
	answered, err := f.push("application/x-ndjson", "?id=bulk", body)
	if err != nil {
		return err
	}
	if err := f.untilBlocked(last, 5*time.Minute); err != nil {
		return err
	}
	fmt.Printf("%d names as NDJSON (%d MB): answered after %.1f s, in force on all servers after %.1f s; peak memory of control %d MB, of a server %d MB\n",
		f.bulk, len(body)/1_000_000, answered.Sub(began).Seconds(), time.Since(began).Seconds(), f.control.peak(), f.edges[0].peak())
	return nil
}
