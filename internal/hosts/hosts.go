// Package hosts checks the Host header field of requests, against DNS rebinding.
//
// A web page can make a browser send requests to a loopback address or into a private network: its name first has its own address, then that one. Such
// requests carry the page's name in Host. An IP address in Host is no name that anyone can point elsewhere.
package hosts

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Only serves with h the requests whose Host is an IP address, localhost, or a name for which also returns true; refused answers the others. also
// receives names in lower case, without a port and a trailing dot, and may be nil. A request without Host, of HTTP/1.0, is no browser's.
func Only(h http.Handler, also func(name string) bool, refused http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name := nameOf(r.Host); name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") || also != nil && also(name) {
			h.ServeHTTP(w, r)
			return
		}
		refused(w, r)
	})
}

// nameOf returns the name in a Host header field, "" for an address or nothing.
func nameOf(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err == nil {
		return ""
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}
