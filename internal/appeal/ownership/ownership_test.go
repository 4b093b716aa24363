package ownership

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestProofInDNS(t *testing.T) {
	text := Text("thecode")
	var asked string
	c := &Checker{
		LookupTXT: func(_ context.Context, name string) ([]string, error) {
			asked = name
			return []string{"v=spf1 -all", text + " "}, nil
		},
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no web server") },
	}
	if !c.Check(t.Context(), "bad.example", text) || asked != "_rempart-appeal.bad.example." {
		t.Errorf("the record of %s was not found", asked)
	}
	if c.Check(t.Context(), "bad.example", Text("othercode")) {
		t.Error("the record of another appeal was accepted")
	}
	if strings.Contains(text, "thecode") {
		t.Error("the text reveals the code")
	}
}

func TestProofInFile(t *testing.T) {
	text := Text("thecode")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.Host, "moved."):
			http.Redirect(w, r, "http://good.example"+file, http.StatusFound)
		case r.URL.Path != file || !strings.HasPrefix(r.Host, "good."):
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = w.Write([]byte(text + "\n"))
		}
	}))
	defer s.Close()
	c := &Checker{
		LookupTXT: func(context.Context, string) ([]string, error) { return nil, errors.New("NXDOMAIN") },
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasSuffix(address, ":443") {
				return nil, errors.New("refused")
			}
			return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
		},
		IsPublic: func(netip.Addr) bool { return true },
	}
	for name, want := range map[string]bool{"good.example": true, "other.example": false, "moved.example": false} {
		if got := c.Check(t.Context(), name, text); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	c.IsPublic = nil
	if c.Check(t.Context(), "good.example", text) {
		t.Error("the file of this machine was fetched")
	}
}

// TestOnlyPublicAddressesAreAsked checks to which addresses a request for the file may go.
func TestOnlyPublicAddressesAreAsked(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "2001:4860:4860::8888": true,
		"127.0.0.1": false, "10.0.0.1": false, "100.64.0.1": false, "169.254.169.254": false, "198.18.0.1": false, "240.0.0.1": false, "0.0.0.0": false, "224.0.0.1": false,
		"::1": false, "fe80::1": false, "fd00::1": false, "fec0::1": false, "::127.0.0.1": false, "64:ff9b::808:808": false, "2002:808:808::": false, "2001::1": false,
	} {
		if got := publicAddress(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}
