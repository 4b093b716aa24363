package stream

import (
	"fmt"
	"strconv"
	"strings"
)

// The streams, and the subjects of their messages.
const (
	journalStream  = "REMPART_JOURNAL"
	journalSubject = "rempart.journal." // followed by the record's kind
	beatsStream    = "REMPART_BEATS"
	beatsSubject   = "rempart.beats"
	auditStream    = "REMPART_AUDIT"
	auditSubject   = "rempart.audit"
	objectBucket   = "REMPART"
	objectStream   = "OBJ_" + objectBucket
	bucketPrefix   = "REMPART_" // prefix of the key-value buckets' names

	// Servers publish the headers of each stored message below newSubject, as a wake-up for followers.
	newSubject = "rempart.new."
	newRecords = newSubject + "journal.>"
	newBeats   = newSubject + "beats"

	reportSubject = "rempart.report." // followed by the token of the node

	// directGet is the subject of direct gets, followed by the stream's name.
	directGet = "$JS.API.DIRECT.GET."

	// The prefixes of the subjects of answers. A cluster's permissions allow a node to subscribe to its own prefix only.
	nodeInbox    = "_INBOX.node."
	controlInbox = "_INBOX.control"
)

// maxName is the largest length of kinds, keys and nodes' names in bytes.
const maxName = 128

// token returns a name as one token of a subject or as a key: letters, digits, - and _ are unchanged, other bytes are written as = and two hexadecimal digits.
// It returns "" for names that are empty or too long.
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

// untoken returns the name of a token. ok is false if token does not return t for any name.
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

// badName returns the error for a name that has no token.
func badName(what, name string) error {
	return fmt.Errorf("%s %.40q: must have 1 to %d bytes", what, name, maxName)
}
