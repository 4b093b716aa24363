package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"rempart/internal/admin"
	"rempart/internal/hosts"
	"rempart/resolver/listen"
)

// Activated holds the sockets that systemd opened for this process (sd_listen_fds(3)).
type Activated struct {
	Packets []net.PacketConn
	Streams []net.Listener
}

// ActivatedSockets returns the sockets that systemd opened for this process. Without systemd there are none.
func ActivatedSockets() (all Activated, err error) {
	for _, f := range activation.Files(true) {
		if p, err := net.FilePacketConn(f); err == nil {
			all.Packets = append(all.Packets, p)
		} else if l, err := net.FileListener(f); err == nil {
			all.Streams = append(all.Streams, l)
		} else {
			return Activated{}, fmt.Errorf("the socket %s from systemd is neither UDP nor TCP: %w", f.Name(), err)
		}
		f.Close() // net made a copy of the descriptor
	}
	return all, nil
}

// LogAbsent logs a warning for each address that this machine does not have yet. Listening on such an address is possible.
func LogAbsent(log *slog.Logger, variable string, addrs []netip.AddrPort) {
	for _, addr := range listen.Absent(addrs) {
		log.Warn("this machine does not have the address; Rempart serves on this address as soon as it is assigned to the machine", "address", addr, "variable", variable)
	}
}

// MetricsHandler returns the handler of a listener of REMPART_METRICS_LISTEN. On a loopback address it checks the Host field, so that no web page in a
// browser of this machine can read the metrics (DNS rebinding).
func MetricsHandler(addr netip.AddrPort, h http.Handler) http.Handler {
	if !addr.Addr().IsLoopback() {
		return h
	}
	return hosts.Only(h, nil, admin.Misdirected)
}

const httpTimeout = 10 * time.Second

// ServeHTTP serves h on addr until ctx ends, over at most conns connections at a time and with limits on the time and size of requests. It returns addr
// with the port in use, which is another one if the port of addr is 0.
func ServeHTTP(ctx context.Context, g *errgroup.Group, addr netip.AddrPort, h http.Handler, variable string, conns int, logger *slog.Logger) (netip.AddrPort, error) {
	l, err := listen.Stream(addr)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return addr, fmt.Errorf("another program already listens on %s; stop that program, or set %s to another address or to \"none\"", addr, variable)
		}
		return addr, fmt.Errorf("serving on %s (%s): %w", addr, variable, err)
	}
	addr = netip.AddrPortFrom(addr.Addr(), uint16(l.Addr().(*net.TCPAddr).Port))
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: httpTimeout, ReadTimeout: httpTimeout, WriteTimeout: httpTimeout, IdleTimeout: httpTimeout,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       log.New(io.Discard, "", 0), // the log of net/http holds client addresses, which must not be stored
	}
	g.Go(func() error {
		if err := s.Serve(netutil.LimitListener(l, conns)); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("a web listener stopped; DNS is still answered", "address", addr, "error", err)
		}
		return nil
	})
	g.Go(func() error { return ShutdownAfter(ctx, s, time.Second) })
	return addr, nil
}

// ShutdownAfter shuts a server down when ctx ends. Requests in progress are interrupted if they take longer than
// patience.
func ShutdownAfter(ctx context.Context, s *http.Server, patience time.Duration) error {
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if s.Shutdown(end) != nil {
		s.Close()
	}
	return nil
}
