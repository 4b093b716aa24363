package main

import "log/slog"

// descriptors holds the maximum of sockets for each kind of connection. Together they are less than the limit of the system on the open files and sockets of
// this process, so that no kind takes those that another needs. The rest is for lists, copies and the journal.
type descriptors struct {
	streams   int // DNS connections over TCP
	questions int // asked upstream at a time; each has a socket, a few have two
	web       int // connections to one listener of the page or the metrics
	api       int // connections to one listener of the operators' API
}

// enoughDescriptors is the limit at which every kind has as many as it can use.
const enoughDescriptors = 65536

// share divides a limit among the kinds.
func share(limit uint64) descriptors {
	limit = min(limit, enoughDescriptors)
	return descriptors{
		streams:   min(int(limit/4), 4096),
		questions: min(int(limit/4), 4096),
		web:       min(max(1, int(limit/32)), 512), // a listener of none would never answer
		api:       min(max(1, int(limit/8)), 8192),
	}
}

// processDescriptors returns the shares of this process. It logs a warning if a higher limit would allow more connections and questions of DNS.
func processDescriptors(log *slog.Logger) descriptors {
	limit := descriptorLimit()
	d, most := share(limit), share(enoughDescriptors)
	if d.streams == most.streams && d.questions == most.questions {
		return d
	}
	log.Warn("the system's limit of open files and sockets is low, so that fewer connections and questions are possible at a time: raise LimitNOFILE= in the unit, or ulimit -n",
		"limit", limit, "enough", enoughDescriptors)
	return d
}
