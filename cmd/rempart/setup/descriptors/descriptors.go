// Package descriptors divides the system's limit of open files and sockets among the kinds of connections.
package descriptors

import (
	"fmt"
	"log/slog"
	"strconv"

	"rempart/internal/config"
)

// Shares holds the maximum number of sockets for each kind of connection. The sum is less than the system's limit of open files and sockets of this
// process, so that no kind uses sockets that another needs. The rest is for lists, copies and the journal.
type Shares struct {
	Streams   int // DNS connections over TCP and TLS; those over QUIC need no descriptor of their own, but are counted among them
	Questions int // questions to upstreams that have sockets of their own; a few need two. The others share some sockets per core and upstream
	Web       int // connections to one listener of the page, the portal or the metrics, and to all listeners that refuse https:// connections to the page
	API       int // connections to one listener of the operators' API
}

// enough is the limit from which on every kind has its largest share.
const enough = 65536

// Share divides the limit of descriptors among the kinds of connections.
func Share(limit uint64) Shares {
	limit = min(limit, enough)
	return Shares{
		Streams:   min(int(limit/4), 4096),
		Questions: min(int(limit/4), 4096),
		Web:       min(max(1, int(limit/32)), 512), // with none, a listener would never answer
		API:       min(max(1, int(limit/8)), 8192),
	}
}

// OfProcess returns the shares of this process. connections replaces the share of DNS connections, unless it is 0. OfProcess logs a warning if a
// higher limit would allow more connections and questions of DNS, and returns an error if connections do not fit beside the other shares.
func OfProcess(connections int, log *slog.Logger) (Shares, error) {
	limit := Limit()
	d, most := Share(limit), Share(enough)
	if connections > 0 {
		d.Streams, most.Streams = connections, connections
		if room := limit - min(limit, uint64(d.Questions+3*d.Web)+limit/16); uint64(connections) > room {
			return d, config.Bad("CONNECTIONS", strconv.Itoa(connections), fmt.Sprintf(
				"at most %d with the system's limit of %d open files and sockets: raise LimitNOFILE= in the unit, or ulimit -n", room, limit))
		}
	}
	if d.Streams == most.Streams && d.Questions == most.Questions {
		return d, nil
	}
	log.Warn("the system's limit of open files and sockets is low, so that fewer connections and questions are possible at a time: raise LimitNOFILE= in the unit, or ulimit -n",
		"limit", limit, "enough", enough)
	return d, nil
}
