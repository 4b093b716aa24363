package listen

import (
	"rempart/internal/wire"
	"rempart/resolver/listen/proxyproto"
)

// unwrap removes the header before a query that a proxy sent over UDP, and takes the client from it. Without a valid header, or if nothing is answered to the port of
// the client, the query loses its packet, so that the handler drops it.
func unwrap(q *wire.Query, ports *ignoredPorts, counts *udpCounts) {
	h, err := proxyproto.Read(q.Packet)
	switch {
	case err != nil:
		counts.proxyFailures.Add(1)
		q.Packet = nil
	case h.Client.IsValid() && ports.has(h.Client.Port()):
		counts.ignored[ignoredPort].Add(1)
		q.Packet = nil
	case h.Client.IsValid():
		q.Packet, q.Client, q.Local = q.Packet[h.Size:], h.Client.Addr(), h.Local.Addr()
	default:
		q.Packet = q.Packet[h.Size:]
	}
}
