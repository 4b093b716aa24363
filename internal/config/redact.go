package config

import (
	"regexp"
	"strings"
)

// inURL matches the user information of a URL within a text: all between the scheme, which may be missing, and the last "@" before the path.
var inURL = regexp.MustCompile(`((?:[A-Za-z][A-Za-z0-9+.-]*)?://)([^/?#\s,]*)@`)

// upstreamHost matches the text before "@" in an upstream over a transport that knows no user information: the host name of the upstream, with a port or
// without. After "@" follows the address of the host.
var upstreamHost = regexp.MustCompile(`^(?i:udp|tcp|tls|quic)://(?:[A-Za-z0-9-]+\.)+[A-Za-z][A-Za-z0-9-]*(?::[0-9]{1,5})?@$`)

// query matches a URL with a query within a text.
var query = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s?#,"']*)\?[^\s,"'#]*`)

// token matches tokens of the operators' API.
var token = regexp.MustCompile(`rempart_[A-Z2-7]{20,}`)

// Redact returns a text without passwords and tokens, and without the queries of URLs, which often hold them. The result may be logged, put into an
// error or printed.
func Redact(text string) string {
	if strings.Contains(text, "://") {
		text = query.ReplaceAllString(inURL.ReplaceAllStringFunc(text, hideUser), "${1}?…")
	}
	if strings.Contains(text, "rempart_") {
		text = token.ReplaceAllString(text, "rempart_xxxxx")
	}
	return text
}

// hideUser replaces the user information in a match of inURL.
func hideUser(match string) string {
	if upstreamHost.MatchString(match) {
		return match
	}
	return match[:strings.Index(match, "://")+len("://")] + "xxxxx@"
}
