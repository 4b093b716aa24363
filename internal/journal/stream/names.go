package stream

import (
	"fmt"
	"strconv"
	"strings"
)

// The streams, and the subjects of their messages.
const (
	journalStream  = "REMPART_JOURNAL"
	journalSubject = "rempart.journal." // and the record's kind
	beatsStream    = "REMPART_BEATS"
	beatsSubject   = "rempart.beats"
	auditStream    = "REMPART_AUDIT"
	auditSubject   = "rempart.audit"
	objectBucket   = "REMPART"
	objectStream   = "OBJ_" + objectBucket
	bucketPrefix   = "REMPART_" // of the key-value buckets' names

	// Servers say by a message's headers, under newSubject, that it was kept: a wake-up, nothing more.
	newSubject = "rempart.new."
	newRecords = newSubject + "journal.>"
	newBeats   = newSubject + "beats"

	reportSubject = "rempart.report." // and the token of the node that reports

	// directGet is where servers answer reads, followed by the stream's name.
	directGet = "$JS.API.DIRECT.GET."

	// The prefixes of the subjects that answers are sent to. A cluster's permissions let a node subscribe to its own only.
	nodeInbox    = "_INBOX.node."
	controlInbox = "_INBOX.control"
)

// maxName bounds kinds, keys and nodes' names, in octets.
const maxName = 128

// token is a name as one token of a subject, and as a key: letters, digits, - and _ stand for themselves, other octets
// as = and two hexadecimal digits. It is empty, and so no token, for names that are empty or too long.
func token(name string) string {
	if len(name) > maxName {
		return ""
	}
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; isPlain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// untoken is the name of a token; ok is false for what token does not make.
func untoken(t string) (name string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(t); i++ {
		if t[i] != '=' {
			b.WriteByte(t[i])
			continue
		}
		if i+2 >= len(t) {
			return "", false
		}
		c, err := strconv.ParseUint(t[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), t != "" && token(b.String()) == t
}

func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// badName is the error for a name that has no token.
func badName(what, name string) error {
	return fmt.Errorf("%s %.40q: 1 to %d octets are needed", what, name, maxName)
}
