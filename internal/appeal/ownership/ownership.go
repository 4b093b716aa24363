// Package ownership looks for the proof that an appellant controls a name: a text in a TXT record below the name, or in a file of the site.
package ownership

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"rempart/internal/redirect"
)

const (
	prefix  = "_rempart-appeal."                // first label of the name of the TXT record
	file    = "/.well-known/rempart-appeal.txt" // path of the file
	before  = "rempart-appeal="                 // beginning of the text
	timeout = 7 * time.Second                   // for all places together, because the reader waits
	maxBody = 4 << 10                           // bytes of the file that are read
	maxTXT  = 100                               // TXT records that are compared
)

// Checker looks for proofs. It is safe for concurrent use.
type Checker struct {
	// LookupTXT returns the TXT records of a name, as net.Resolver does. Its resolver must not block the name.
	LookupTXT func(ctx context.Context, name string) ([]string, error)
	// Dial connects to a host and port. Its resolver must not block the name.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// IsPublic reports whether the file of a site may be fetched from an address. nil allows public addresses only, so that nobody can make this machine fetch
	// from its own network.
	IsPublic func(netip.Addr) bool
}

// Text returns the text that an appellant publishes to prove the control of a name. code is the code of the appeal, which the text does not reveal.
func Text(code string) string {
	sum := sha256.Sum256([]byte("ownership " + code))
	return before + hex.EncodeToString(sum[:16])
}

// Record returns the name of the TXT record that may hold the text.
func Record(name string) string { return prefix + name }

// File returns the URL of the file that may hold the text.
func File(name string) string { return "https://" + name + file }

// Check reports whether the text is published for a name. It looks in all places at once.
func (c *Checker) Check(ctx context.Context, name, text string) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	places := []func() bool{
		func() bool { return c.inDNS(ctx, name, text) },
		func() bool { return c.inFile(ctx, "https", name, text) },
		func() bool { return c.inFile(ctx, "http", name, text) },
	}
	found := make(chan bool, len(places))
	for _, look := range places {
		go func() { found <- look() }()
	}
	for range places {
		select {
		case yes := <-found:
			if yes {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
	return false
}

func (c *Checker) inDNS(ctx context.Context, name, text string) bool {
	records, err := c.LookupTXT(ctx, Record(name)+".")
	if err != nil {
		return false
	}
	for _, r := range records[:min(len(records), maxTXT)] {
		if strings.TrimSpace(r) == text {
			return true
		}
	}
	return false
}

// inFile fetches the file. It follows no redirect: another site's file proves nothing.
func (c *Checker) inFile(ctx context.Context, scheme, name, text string) bool {
	transport := &http.Transport{DialContext: c.dialPublic, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+name+file, nil)
	if err != nil {
		return false
	}
	res, err := client.Do(r)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return false
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	return err == nil && strings.TrimSpace(string(body)) == text
}

// dialPublic connects to a host, and closes the connection with an error if IsPublic does not allow its address.
func (c *Checker) dialPublic(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	isPublic := c.IsPublic
	if isPublic == nil {
		isPublic = publicAddress
	}
	if err != nil || !isPublic(at.Addr().Unmap()) {
		conn.Close()
		return nil, &net.AddrError{Err: "not a public address", Addr: address}
	}
	return conn, nil
}

// translations are the networks of NAT64 and 6to4: an address in them can stand for one of this machine's own network.
var translations = []netip.Prefix{netip.MustParsePrefix("64:ff9b::/32"), netip.MustParsePrefix("2002::/16")}

func publicAddress(a netip.Addr) bool {
	return !redirect.IsInner(a) && !slices.ContainsFunc(translations, func(p netip.Prefix) bool { return p.Contains(a) })
}
