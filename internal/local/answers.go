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

// Control is the state of a server's connection to its control.
type Control struct {
	URL     string        `json:"url"`
	Version uint64        `json:"version"`
	Newest  uint64        `json:"newest"`
	Heard   time.Duration `json:"heard_ns"` // since control's last heartbeat
	Problem string        `json:"problem,omitempty"`
}
