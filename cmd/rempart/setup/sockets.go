package setup

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"rempart/internal/admin"
	"rempart/internal/hosts"
	"rempart/resolver/listen"
)

// Activated holds the sockets that systemd opened for this process (sd_listen_fds(3)).
type Activated struct {
	Packets []net.PacketConn
	Streams []net.Listener
}

// ActivatedSockets returns the sockets in files, which systemd opened for this process, and closes the files.
func ActivatedSockets(files []*os.File) (all Activated, err error) {
	for _, f := range files {
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
