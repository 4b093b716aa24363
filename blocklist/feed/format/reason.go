package format

import (
	"errors"
	"fmt"
)

// Reason is the reason why a line, or a name in it, is refused. Its String is a value for a metric label. It is an error too: Name and
// Indicator return it.
type Reason uint8

const (
	accepted         Reason = iota
	NotAName                // bytes no host name has, an empty label, an e-mail address
	Address                 // an IP address or a network, also in octal or hexadecimal, or a numeric top-level domain
	SingleLabel             // a top-level domain or a host of the local network
	LocalName               // localhost and other names of this machine
	TooLong                 // a label over 63 bytes, a name over 255 (RFC 1035 section 2.3.4)
	Punycode                // an "xn--" label that encodes nothing, or Unicode that no name may hold (RFC 5891)
	URLPath                 // a path, query or fragment: the page is listed, not its host
	Wildcard                // a "*" elsewhere than as the first label
	Pattern                 // a rule that matches a part of addresses, "||name" without "^"; a STIX pattern on more than a name or URL
	Regex                   // a regular expression
	Cosmetic                // a rule that hides parts of pages
	Modifier                // a rule with a "$modifier" under which it is no whole-host block
	Redirect                // data or a server of its own for the name: an answer changed, not blocked
	Trigger                 // an RPZ rule on the client or on name servers: checked, not enforced
	UnknownForm             // a line of no known format
	LineTooLong             // a line longer than MaxLine bytes
	SharedHost              // a URL on a host that carries many sites of different people
	OtherIndicator          // an indicator that is no name: a hash, a file, a mail address
	NotToBlock              // an entry that its publisher does not want to be blocked: to_ids false, revoked, unverified, benign
	BadTime                 // a time of validity that cannot be read
	BadTrigger              // an RPZ trigger on addresses or name servers that is malformed
	ShortPrefix             // an RPZ prefix of addresses shorter than 24 bits (IPv4) or 48 bits (IPv6)
	NotGlobal               // addresses that are not globally routed
	PassedAddress           // an RPZ pass on addresses: no block, and no name either
	InexactException        // an exception that a DNS filter cannot apply as it is written: names that it means may stay blocked
	AmbiguousColumn         // a row of a table with several columns of names, whose header does not say which of them is to be blocked
	reasonCount
)

var reasonTexts = [reasonCount]string{
	"accepted", "not-a-name", "address", "single-label", "local-name", "too-long", "punycode", "url-path",
	"wildcard-inside", "pattern", "regex", "cosmetic", "modifier", "redirect", "rpz-trigger",
	"unknown-form", "line-too-long", "shared-host", "other-indicator", "not-to-block", "bad-time", "rpz-malformed",
	"short-prefix", "not-global", "passed-address", "inexact-exception", "ambiguous-column",
}

// String returns the reason in kebab-case.
func (r Reason) String() string {
	if r >= reasonCount {
		return "unknown"
	}
	return reasonTexts[r]
}

// Error returns String.
func (r Reason) Error() string { return r.String() }

var reasonSentences = map[Reason]string{
	NotAName:         "it is not the name of a host",
	Address:          "it is an address, not a name",
	SingleLabel:      "it is a top-level domain, or a host of the local network",
	LocalName:        "it is a name of this machine or the local network",
	TooLong:          "it is longer than a name may be",
	Punycode:         "it holds characters that no name may hold",
	URLPath:          "it is a URL that names a page: write its host alone to mean the whole host",
	Wildcard:         "a \"*\" may stand for the first label only",
	Pattern:          "it is a pattern that matches more than a host",
	Regex:            "it is a regular expression",
	Cosmetic:         "it is a rule that hides parts of pages",
	Modifier:         "its modifier means something else than the whole host",
	Redirect:         "it leads to another name or address",
	UnknownForm:      "it is in no known form",
	LineTooLong:      "the line is too long",
	AmbiguousColumn:  "the table has several columns of names, and no column is called \"domain\", \"host\" or \"url\": name the one to block so",
	InexactException: "it means more than a host, and is applied to its host at most",
}

// Sentence returns the reason as a sentence about "it": the line or the name.
func (r Reason) Sentence() string {
	if s, ok := reasonSentences[r]; ok {
		return s
	}
	return "it is refused as " + r.String()
}

// Explain returns an error of Indicator or Name with its reason as a sentence.
func Explain(err error) error {
	if err == nil {
		return nil
	}
	if reason := Reason(0); errors.As(err, &reason) {
		return fmt.Errorf("%s (%w)", reason.Sentence(), err)
	}
	return err
}

// remedy returns advice for a list of which most lines are refused for this reason, "" for none. It begins with the separator from the
// sentence before.
func (r Reason) remedy() string {
	if r == Redirect {
		return `: its records redirect to other names or addresses; set policy = "block" for it in the file of REMPART_FEEDS to block these names`
	}
	return ""
}

// Refusals are the numbers of refused lines and names, by Reason.
type Refusals [reasonCount]int

// Total is the number of refusals of all reasons.
func (r Refusals) Total() int {
	n := 0
	for _, c := range r {
		n += c
	}
	return n
}

// Map holds the reasons that occurred, by their String.
func (r Refusals) Map() map[string]int {
	m := map[string]int{}
	for reason, n := range r {
		if n > 0 {
			m[Reason(reason).String()] = n
		}
	}
	return m
}

// most is the most frequent reason.
func (r Refusals) most() Reason {
	top := accepted
	for reason, n := range r {
		if n > r[top] {
			top = Reason(reason)
		}
	}
	return top
}
