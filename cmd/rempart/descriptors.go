package main

import "log/slog"

// descriptors shares the files and sockets that the system lets this process open, so that no kind of connection takes those that another needs. What they
// leave is for lists, copies and the journal.
type descriptors struct {
	streams   int // DNS over TCP
	questions int // asked upstream at a time; each has a socket, a few have two
	web       int // connections to one listener of the page or the metrics
	api       int // the same of the operators' API
}

// enoughDescriptors is the limit from which on every kind has as many as it can use.
const enoughDescriptors = 65536

// share returns the shares of a limit.
func share(limit uint64) descriptors {
	limit = min(limit, enoughDescriptors)
	return descriptors{
		streams:   min(int(limit/4), 4096),
		questions: min(int(limit/4), 4096),
		web:       min(int(limit/32), 512),
		api:       min(int(limit/8), 8192),
	}
}

// openable returns this process's shares. The log says if they are less than they could be.
func openable(log *slog.Logger) descriptors {
	limit := descriptorLimit()
	if d := share(limit); d == share(enoughDescriptors) {
		return d
	}
	log.Warn("the system lets this process open few files and sockets, and so fewer connections and questions at a time: raise LimitNOFILE= of the unit, or ulimit -n",
		"limit", limit, "enough", enoughDescriptors)
	return share(limit)
}
