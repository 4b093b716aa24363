// Command echo answers every query with itself, through Rempart's own sockets: what it costs is the floor under
// what Rempart does with a query.
//
//	go run ./bench/echo 127.0.0.1:5300
package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"rempart/internal/wire"
	"rempart/resolver/listen"
)

// echo sends what came, marked as an answer.
type echo struct{}

func (echo) Fast(batch []wire.Query) {
	for i := range batch {
		q := &batch[i]
		if q.Outcome = wire.Dropped; len(q.Packet) < wire.HeaderLen {
			continue
		}
		q.Out = append(q.Out[:0], q.Packet...)
		wire.SetFlags(q.Out, wire.Flags(q.Out)|wire.FlagQR)
		q.Outcome = wire.Answered
	}
}

func (echo) Slow(context.Context, *wire.Query) {}
func (echo) Shed(*wire.Query)                  {}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: echo ADDRESS:PORT")
	}
	addr, err := netip.ParseAddrPort(os.Args[1])
	if err != nil {
		return err
	}
	s, err := listen.New(listen.Config{Addrs: []netip.AddrPort{addr}, NewHandler: func() listen.Handler { return echo{} }})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return s.Run(ctx)
}
