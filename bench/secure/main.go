// Command secure loads a DNS server over an encrypted transport and measures the CPU time that the server spends per answer.
//
// Each connection holds a fixed number of queries in flight; for each answer a new query is sent. The transports are tls (RFC 7858), https (RFC 8484 over HTTP/2),
// h3 (RFC 8484 over HTTP/3) and quic (RFC 9250).
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"rempart/bench"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("secure: ")
	var l load
	flag.IntVar(&l.conns, "conns", 10, "connections")
	flag.IntVar(&l.inFlight, "in-flight", 100, "queries in flight on each connection")
	flag.DurationVar(&l.duration, "time", 5*time.Second, "how long to send queries")
	pid := flag.Int("pid", 0, "process of the server, whose CPU time is reported")
	names := flag.String("names", "", "file with one name per line (required)")
	idle := flag.Int("idle", 0, "open so many idle connections over TLS instead, and print the memory that the server uses for each")
	handshakes := flag.Bool("handshakes", false, "make full TLS handshakes instead, and print how many the server makes per second of CPU time")
	bare := flag.String("bare", "", "serve TLS handshakes on this address instead, as a comparison, with -cert and -key")
	certificate, key := flag.String("cert", "", "certificate for -bare"), flag.String("key", "", "key for -bare")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: secure -names FILE [flags] tls://ADDRESS:PORT | https://ADDRESS:PORT/dns-query | h3://ADDRESS:PORT/dns-query | quic://ADDRESS:PORT\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if *bare != "" {
		log.Fatal(serveBare(*bare, *certificate, *key))
	}
	if flag.NArg() != 1 || *names == "" {
		flag.Usage()
		os.Exit(2)
	}
	if err := l.read(*names); err != nil {
		log.Fatal(err)
	}
	target, err := url.Parse(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	ask, known := map[string]func(context.Context, *load, *url.URL) error{"tls": askTLS, "https": askHTTP2, "h3": askHTTP3, "quic": askQUIC}[target.Scheme]
	if !known {
		log.Fatalf("%s: the transport is none of tls, https, h3 and quic", flag.Arg(0))
	}
	switch {
	case *idle > 0:
		err = l.hold(target, *idle, *pid)
	case *handshakes:
		err = l.handshakes(target, *pid)
	default:
		err = l.run(target, ask, *pid)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// load is the load and its result.
type load struct {
	conns, inFlight int
	duration        time.Duration
	queries         [][]byte // packed, with ID 0
	next            atomic.Uint64
	answered        atomic.Uint64
}

// read packs a query for A of each name in a file, without EDNS.
func (l *load) read(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(b)) {
		m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
		m.Id = 0
		packed, err := m.Pack()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		l.queries = append(l.queries, packed)
	}
	if len(l.queries) == 0 {
		return fmt.Errorf("%s holds no name", path)
	}
	return nil
}

// query returns the next query.
func (l *load) query() []byte { return l.queries[l.next.Add(1)%uint64(len(l.queries))] }

// check counts an answer, or returns an error if it is none.
func (l *load) check(answer []byte) error {
	if len(answer) < 12 || answer[2]&0x80 == 0 || answer[3]&0xf != 0 {
		return fmt.Errorf("not an answer without error: %x", answer[:min(len(answer), 12)])
	}
	l.answered.Add(1)
	return nil
}

// run asks over all connections until the time is over, and prints the result.
func (l *load) run(target *url.URL, ask func(context.Context, *load, *url.URL) error, pid int) error {
	ctx, cancel := context.WithTimeout(context.Background(), l.duration+time.Second)
	defer cancel()
	var all sync.WaitGroup
	failed := make(chan error, l.conns)
	for range l.conns {
		all.Go(func() {
			if err := ask(ctx, l, target); err != nil && ctx.Err() == nil {
				failed <- err
			}
		})
	}
	time.Sleep(time.Second) // handshakes, and what is asked for the first time
	before, cpu := l.answered.Load(), cpuOf(pid)
	began := time.Now()
	<-ctx.Done()
	took := time.Since(began)
	answered := l.answered.Load() - before
	spent := cpuOf(pid) - cpu
	all.Wait()
	close(failed)
	fmt.Printf("%s answered %d per_second %.0f", target.Scheme, answered, float64(answered)/took.Seconds())
	if pid != 0 && answered > 0 {
		fmt.Printf(" cpu_us %.2f", float64(spent.Microseconds())/float64(answered))
	}
	fmt.Println()
	var errs []error
	for err := range failed {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// cpuOf returns the CPU time that a process has used; 0 for process 0, or if it cannot be read.
func cpuOf(pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	used, err := bench.CPU(pid)
	if err != nil {
		log.Print(err)
	}
	return used
}

// settings returns the TLS settings of a client. The certificate is not checked: only CPU time is measured.
func settings(protocols ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}
}
