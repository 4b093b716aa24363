package local

import (
	"encoding/json"
	"time"
)

// Verdict is what a client that asks the running server for a name gets, and why.
type Verdict struct {
	Name     string   `json:"name"`            // as the server reads it
	Action   string   `json:"verdict"`         // "pass", "allow" or "block"
	Entry    string   `json:"entry,omitempty"` // the name of the deciding entry
	Scope    string   `json:"scope,omitempty"` // its scope
	Category string   `json:"category,omitempty"`
	Sources  []string `json:"sources,omitempty"`  // the lists that claim it, or the operators
	Target   string   `json:"target,omitempty"`   // the name or address in the answer that is listed; "" for the name itself
	Note     string   `json:"note,omitempty"`     // a sentence about what lists do not decide
	Unsure   string   `json:"unsure,omitempty"`   // why the target is not known; "" where it is
	Observed bool     `json:"observed,omitempty"` // blocks are counted and not enforced
}

// Match is a listed entry and how often it decided since the server's start that a query is blocked, or would have been where blocks are only observed.
type Match struct {
	Entry    string   `json:"entry"` // the listed name or prefix, never a name that was asked for
	Category string   `json:"category"`
	Sources  []string `json:"sources"`
	Hits     uint64   `json:"hits"`
}

// Status is how the running server stands.
type Status struct {
	Version   string          `json:"version"`
	Started   time.Time       `json:"started"`
	Listening []string        `json:"listening"`
	Mode      string          `json:"mode"`
	Set       Set             `json:"set"`
	Queries   uint64          `json:"queries"` // since the start
	Blocked   uint64          `json:"blocked"`
	Upstreams []Upstream      `json:"upstreams"`
	Control   *Control        `json:"control,omitempty"`  // nil: by lists of its own
	Problems  []string        `json:"problems,omitempty"` // what keeps it from working as configured, a sentence each
	Feeds     json.RawMessage `json:"feeds"`              // the status of the lists, as blocklist/feed has it
}

// Set is the set in force.
type Set struct {
	Version   uint64    `json:"version"`
	Names     int       `json:"names"`
	Created   time.Time `json:"created"`
	Suspended bool      `json:"suspended,omitempty"`
}

// Upstream is one resolver that is forwarded to.
type Upstream struct {
	Name    string `json:"name"`
	Healthy bool   `json:"healthy"`
	Looping bool   `json:"looping,omitempty"`
}

// Control is how a server follows its control.
type Control struct {
	URL     string        `json:"url"`
	Version uint64        `json:"version"`
	Newest  uint64        `json:"newest"`
	Heard   time.Duration `json:"heard_ns"` // since control's last heartbeat
	Problem string        `json:"problem,omitempty"`
}
