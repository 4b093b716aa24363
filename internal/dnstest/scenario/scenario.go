package scenario

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Scenario is a file that Parse has read.
type Scenario struct {
	Title    string
	Settings []Setting

	ranges []stepRange
	steps  []step
}

// Setting is a line of the format "key: value".
type Setting struct {
	Key, Value string
	Position   string // "file:line"
}

// Errorf returns an error that names the setting and its position.
func (s Setting) Errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", s.Position, s.Key, fmt.Errorf(format, args...))
}

// stepRange holds the answers of upstreams during some steps.
type stepRange struct {
	first, last int
	address     netip.Addr // invalid: every upstream
	entries     []*entry
}

type stepKind string

const (
	stepQuery         stepKind = "QUERY"
	stepCheckAnswer   stepKind = "CHECK_ANSWER"
	stepCheckNoAnswer stepKind = "CHECK_NO_ANSWER"
	stepCheckOutQuery stepKind = "CHECK_OUT_QUERY"
	stepOutQueries    stepKind = "OUT_QUERIES"
	stepReply         stepKind = "REPLY"
	stepTimeout       stepKind = "TIMEOUT"
	stepTimePasses    stepKind = "TIME_PASSES"
	stepChange        stepKind = "CHANGE"
	stepNothing       stepKind = "NOTHING"
	stepTraffic       stepKind = "TRAFFIC"
)

type step struct {
	number   int
	position string
	kind     stepKind
	address  netip.Addr    // of ADDRESS, or invalid
	entry    *entry        // of the kinds that have an entry
	elapse   time.Duration // of TIME_PASSES
	count    int           // of OUT_QUERIES
	settings []Setting     // of CHANGE
}

// hasEntry reports whether an entry follows a step of this kind.
func (k stepKind) hasEntry() bool {
	return k == stepQuery || k == stepCheckAnswer || k == stepCheckOutQuery || k == stepReply
}

// entry is one or more messages, and how a message is compared with the first of them.
type entry struct {
	position string
	match    map[string]bool
	ede      []uint16 // of ede=
	within   time.Duration
	packets  []*packet
}

// packet is one message of an entry, and how it is sent.
type packet struct {
	copyID, copyQuery, flipCase, drop, shut, loop bool
	sleep                                         time.Duration

	header   dns.MsgHdr // without ID
	do       bool
	edns     presence
	size     uint16
	errors   []*dns.EDNS0_EDE
	question []dns.Question
	sections [3][]dns.RR // answer, authority, additional
	raw      []byte      // the whole message, of HEX_ANSWER_BEGIN; nil: made from the above
	options  []byte      // of HEX_EDNSDATA_BEGIN
}

// presence says whether a message has an OPT.
type presence uint8

const (
	asUsual presence = iota // a query has an OPT if it has DO or options, an answer if the query has an OPT
	present
	absent
)
