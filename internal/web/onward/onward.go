// Package onward makes and parses the URLs by which a reader of the warning page continues to a blocked name. Packages warning and probezone render the pages.
//
// The warning page links to a URL of kind Ask, which Offer returns. The page at that URL asks for a confirmation, with a form whose URL is of kind Go, which
// Confirm returns. The browser's DNS query for the host of the second URL sets the grant in the server that answers the reader's queries. Package grant
// describes the hosts.
package onward

import (
	"net"
	"net/netip"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/internal/grant"
)

// Kind is the purpose of a URL.
type Kind = grant.Kind

const (
	Ask = grant.Ask // the page asks for a confirmation
	Go  = grant.Go  // the reader has confirmed
)

// Config configures Links.
type Config struct {
	Zone        grant.Zone             // REMPART_PROBE
	Secrets     func() *grant.Secrets  // returns the secrets in use
	MayContinue func(name []byte) bool // reports whether a canonical name is blocked now and people may continue to it
}

// Links makes and reads URLs. A nil *Links offers nothing and recognizes no URL: nobody may continue. Its methods may be called concurrently.
type Links struct{ config Config }

// New returns Links.
func New(c Config) *Links { return &Links{c} }

// Offer returns the URL at which the page asks whether the reader wants to continue to a name in text form. ok is false if the page must not offer it.
func (l *Links) Offer(name string) (url string, ok bool) {
	wire, ok := l.offered(name)
	if !ok {
		return "", false
	}
	return urlOf(l.config.Zone.AskName(wire)), true
}

// Confirm returns the URL by which a reader continues to a name in text form. It is of use to clients with that address only, for grant.Lifetime. The page must show
// it as a form that is submitted (method GET), not as a link: browsers resolve the names of links before anybody clicks on them, and the query sets the grant.
// ok is false if the reader may not continue.
func (l *Links) Confirm(name string, client netip.Addr) (url string, ok bool) {
	wire, ok := l.offered(name)
	if !ok || !client.IsValid() {
		return "", false
	}
	return urlOf(l.config.Zone.GoName(l.config.Secrets().Token(wire, client, time.Now().Unix()), wire)), true
}

// Request is a request for one of the URLs.
type Request struct {
	Kind  Kind
	Name  string // the name to which the reader wants to continue, in text form
	Token string // of Go
}

// Parse reads the Host field of a request, with or without a port. ok is false for other hosts. It does not check the token.
func (l *Links) Parse(host string) (r Request, ok bool) {
	if l == nil {
		return Request{}, false
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	full, err := blocklist.AppendName(nil, strings.TrimSuffix(host, "."))
	if err != nil {
		return Request{}, false
	}
	kind, token, part := l.config.Zone.Split(full)
	if kind == grant.Other {
		return Request{}, false
	}
	name := append(part[:len(part):len(part)], 0)
	if !l.config.Zone.Offers(name) {
		return Request{}, false
	}
	return Request{Kind: kind, Name: blocklist.NameText(name), Token: string(token)}, true
}

// IsValid reports whether the token of a request of kind Go is valid for a client now. It does not report whether a grant was set: the server that answered the DNS
// query knows that, which may be another one.
func (l *Links) IsValid(r Request, client netip.Addr) bool {
	if l == nil || r.Kind != Go || !client.IsValid() {
		return false
	}
	name, err := blocklist.AppendName(nil, r.Name)
	if err != nil {
		return false
	}
	result, _ := l.config.Secrets().Check([]byte(r.Token), name, client, time.Now().Unix())
	return result == grant.Valid
}

// offered returns a name in wire format if people may continue to it.
func (l *Links) offered(name string) (wire []byte, ok bool) {
	if l == nil {
		return nil, false
	}
	wire, err := blocklist.AppendName(nil, strings.TrimSuffix(name, "."))
	if err != nil || !l.config.Zone.Offers(wire) || !l.config.MayContinue(wire) {
		return nil, false
	}
	return wire, true
}

// urlOf returns the URL of a host. Its scheme is http because no server has a certificate for the name.
func urlOf(host []byte) string { return "http://" + blocklist.NameText(host) + "/" }
