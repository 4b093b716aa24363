package stream

import (
	"encoding/base64"
	"strconv"
	"strings"

	"rempart/internal/wire"
)

const (
	dnsMessage = "application/dns-message" // RFC 8484 section 6
	// maxEncoded is the largest dns parameter: a message of the largest size, in base64url.
	maxEncoded = (wire.MaxMessage*4 + 2) / 3
)

// Statuses of HTTP responses (RFC 9110 section 15).
const (
	statusOK         = 200
	statusBadRequest = 400
	statusNotFound   = 404
	statusBadMethod  = 405
	statusTooLarge   = 413
	statusMediaType  = 415
)

// explanationOfRequest is the content of every response without an answer.
const explanationOfRequest = "This is a DNS over HTTPS server (RFC 8484): send a DNS query in application/dns-message to " + wire.DoHPath + ", by POST, or by GET in the parameter dns.\n"

// dohRequest is what DNS over HTTPS needs of an HTTP request.
type dohRequest struct {
	method, target, contentType string // target is the path with the parameters
	length                      uint64 // of the content, as announced; 0 if it was not
}

// requestHead collects the header fields of a request.
type requestHead struct {
	dohRequest
	size      int  // of the fields, as RFC 9113 section 6.5.2 and RFC 9114 section 4.2.2 count
	malformed bool // RFC 9113 section 8.3, RFC 9114 section 4.3
	regular   bool // a field that is no pseudo-header field was added
}

// add adds a field.
func (h *requestHead) add(name, value string) {
	h.size += len(name) + len(value) + 32
	pseudo := strings.HasPrefix(name, ":")
	h.malformed = h.malformed || pseudo && h.regular
	h.regular = h.regular || !pseudo
	switch name {
	case ":method":
		h.malformed = h.malformed || h.method != ""
		h.method = value
	case ":path":
		h.malformed = h.malformed || h.target != ""
		h.target = value
	case "content-type":
		h.contentType = value
	case "content-length":
		n, err := strconv.ParseUint(value, 10, 63)
		h.malformed = h.malformed || err != nil
		h.length = n
	}
}

// isMalformed reports whether the fields make no request.
func (h *requestHead) isMalformed() bool { return h.malformed || h.method == "" || h.target == "" }

// status returns statusOK if the request may hold a query, else the status of the response.
func (r *dohRequest) status() int {
	path, _, _ := strings.Cut(r.target, "?")
	switch {
	case path != wire.DoHPath:
		return statusNotFound
	case r.method == "GET":
	case r.method != "POST":
		return statusBadMethod
	case !isDNSMessage(r.contentType):
		return statusMediaType
	case r.length > wire.MaxMessage:
		return statusTooLarge
	}
	return statusOK
}

// query returns the query of a request whose content has arrived. Without one, the status is that of the response.
func (r *dohRequest) query(content []byte) ([]byte, int) {
	switch status := r.status(); {
	case status != statusOK:
		return nil, status
	case r.method == "GET":
		return r.appendQuery(nil)
	case len(content) > wire.MaxMessage:
		return nil, statusTooLarge
	case len(content) == 0:
		return nil, statusBadRequest
	}
	return content, statusOK
}

// isDNSMessage reports whether a media type, possibly with parameters, is the one of DNS messages (RFC 9110 section 8.3.1).
func isDNSMessage(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(media), dnsMessage)
}

// appendQuery appends the query of a GET request to dst (RFC 8484 section 4.1). If there is none, the status is not statusOK.
func (r *dohRequest) appendQuery(dst []byte) (_ []byte, status int) {
	_, parameters, _ := strings.Cut(r.target, "?")
	for parameters != "" {
		var one string
		one, parameters, _ = strings.Cut(parameters, "&")
		encoded, ok := strings.CutPrefix(one, "dns=")
		if !ok {
			continue
		}
		if len(encoded) > maxEncoded {
			return dst, statusTooLarge
		}
		out, err := base64.RawURLEncoding.AppendDecode(dst, []byte(strings.TrimRight(encoded, "=")))
		if err != nil {
			return dst, statusBadRequest
		}
		return out, statusOK
	}
	return dst, statusBadRequest
}

// maxAge returns for how many seconds an HTTP cache may hold an answer: its smallest TTL (RFC 8484 section 5.1); 0 for a failure.
func maxAge(answer []byte) uint32 {
	if rcode := wire.Rcode(answer); rcode != wire.Success && rcode != wire.NXDomain {
		return 0
	}
	age, found := ^uint32(0), false
	records := wire.ReadRecords(answer)
	for rr := (wire.Record{}); records.Next(&rr); {
		if rr.Type != wire.TypeOPT {
			age, found = min(age, rr.TTL), true
		}
	}
	if !found {
		return 0
	}
	return age
}
