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
