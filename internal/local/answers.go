package local

import (
	"encoding/json"
	"time"
)

// Verdict is the running server's decision on a name, as it is sent to a client, with its reasons.
type Verdict struct {
	Name     string   `json:"name"`            // as the server parsed it
	Action   string   `json:"verdict"`         // "pass", "allow" or "block"
	Entry    string   `json:"entry,omitempty"` // the name of the deciding entry
	Scope    string   `json:"scope,omitempty"` // its scope
	Category string   `json:"category,omitempty"`
	Sources  []string `json:"sources,omitempty"`  // the lists that claim it, or the operators
	Target   string   `json:"target,omitempty"`   // the name or address in the answer that is listed; "" for the name itself
	Note     string   `json:"note,omitempty"`     // a sentence about a decision that is not made by a list
	Unsure   string   `json:"unsure,omitempty"`   // why the target is not known; "" if it is known
	Observed bool     `json:"observed,omitempty"` // blocks are counted but not enforced
}

// Match is a listed entry with the number of queries that were blocked because of it since the server's start, or would have been in observe mode.
type Match struct {
	Entry    string   `json:"entry"` // the listed name or prefix, never a queried name
	Category string   `json:"category"`
	Sources  []string `json:"sources"`
	Hits     uint64   `json:"hits"`
}

// Status is the state of the running server.
type Status struct {
	Version   string          `json:"version"`
	Started   time.Time       `json:"started"`
	Identity  string          `json:"identity"` // of the process, as it answers "instance.rempart" in class CHAOS
	Listening []string        `json:"listening"`
	Mode      string          `json:"mode"`
	Set       SetStatus       `json:"set"`
	Queries   uint64          `json:"queries"` // since the start
	Blocked   uint64          `json:"blocked"`
	Upstreams []Upstream      `json:"upstreams"`
	Control   *Control        `json:"control,omitempty"`  // nil: the server uses its own lists
	Problems  []string        `json:"problems,omitempty"` // why it does not work as configured, one sentence per problem
	Feeds     json.RawMessage `json:"feeds"`              // the status of the lists, in the format of blocklist/feed
}

// readiness is the answer to the question whether queries should be sent to the server.
type readiness struct {
	NotReady string `json:"not_ready"` // why not; "" if the server is ready
}

// SetStatus is the set in force.
type SetStatus struct {
	Version   uint64    `json:"version"`
	Names     int       `json:"names"`
	Created   time.Time `json:"created"`
	Suspended bool      `json:"suspended,omitempty"`
}

// Upstream is one resolver to which queries are forwarded.
type Upstream struct {
	Name    string `json:"name"`
	Healthy bool   `json:"healthy"`
	Unheard bool   `json:"unheard,omitempty"` // it has not answered anything yet
	Looping bool   `json:"looping,omitempty"`
}

// UpstreamGroup holds the upstreams of one part of the name space, and the numbers of the questions to all of them since the start.
type UpstreamGroup struct {
	Zone       string          `json:"zone"`              // a zone of REMPART_FORWARD; "." for every name that is in none
	Missing    string          `json:"missing,omitempty"` // why there is no upstream
	Questions  uint64          `json:"questions"`
	Unanswered uint64          `json:"unanswered"` // questions that no upstream answered
	Shed       uint64          `json:"shed"`       // questions without room for a further attempt
	Denied     uint64          `json:"denied"`     // questions of which a retry or hedge was not sent because such attempts are limited
	InFlight   int64           `json:"in_flight"`
	Upstreams  []UpstreamStats `json:"upstreams"` // in order of preference
}

// UpstreamState is the state of an upstream.
type UpstreamState string

const (
	UpstreamHealthy UpstreamState = "healthy" // in use, also before its first answer
	UpstreamDown    UpstreamState = "down"    // asked only if no healthy one is left
	UpstreamLoop    UpstreamState = "loop"    // it forwards back to this server, and is not used
)

// UpstreamStats holds the state of one upstream and its numbers since the start. The times of its answers are 0 before the first answer.
type UpstreamStats struct {
	Upstream       string            `json:"upstream"`
	Protocol       string            `json:"protocol"`
	State          UpstreamState     `json:"state"`
	Since          time.Time         `json:"since"`   // when it entered this state
	Cookies        bool              `json:"cookies"` // queries to it carry DNS cookies, which it echoes
	Mean           time.Duration     `json:"mean_ns"`
	P50            time.Duration     `json:"p50_ns"` // percentiles of the newest 512 round-trip times
	P95            time.Duration     `json:"p95_ns"`
	P99            time.Duration     `json:"p99_ns"`
	Answers        uint64            `json:"answers"`                   // answers with a round-trip time, errors such as SERVFAIL included
	LastGoodAnswer time.Time         `json:"last_good_answer,omitzero"` // zero before the first
	Queries        uint64            `json:"queries"`                   // attempts, without probes
	Retries        uint64            `json:"retries"`
	Hedges         uint64            `json:"hedges"`
	Failures       map[string]uint64 `json:"failures"`        // attempts that failed, by kind
	ForeignAnswers uint64            `json:"foreign_answers"` // messages that answer no question
	InFlight       int64             `json:"in_flight"`
}

// Control is the state of a server's connection to its control.
type Control struct {
	URL     string        `json:"url"`
	Version uint64        `json:"version"`
	Newest  uint64        `json:"newest"`
	Heard   time.Duration `json:"heard_ns"` // since control's last heartbeat
	Problem string        `json:"problem,omitempty"`
}
