package lookup

import (
	"bytes"
	"net/http"
	"slices"
	"testing"
	"time"

	"rempart/blocklist"
)

func TestResultDescribesTheDecidingEntry(t *testing.T) {
	since := time.Date(2026, 2, 3, 0, 0, 0, 0, time.UTC)
	b := blocklist.NewBuilder()
	name, err := blocklist.AppendName(nil, "bad.example")
	if err != nil {
		t.Fatal(err)
	}
	expiry := since.AddDate(1, 0, 0)
	if err := b.Add(blocklist.Listing{Name: name, Scope: blocklist.Subtree, Category: blocklist.Scam, Mark: blocklist.Censored, ID: "d-1", Since: since.Unix(), Expiry: expiry.Unix()}); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := blocklist.Compile(&buf, blocklist.Info{Version: 5}, b.Input(blocklist.Source{Name: "operator"})); err != nil {
		t.Fatal(err)
	}
	view, err := blocklist.OpenView(buf.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	below, err := blocklist.AppendName(nil, "www.bad.example")
	if err != nil {
		t.Fatal(err)
	}
	r := Of(view, below, below, view.Match(below, blocklist.AllCategories, since.Unix()), "operator")
	if !r.IsBlocked() || r.Name != "www.bad.example" || r.Entry != "bad.example" || r.Category != blocklist.Scam || r.Mark != blocklist.Censored || r.Decision != "d-1" ||
		!r.Operator || len(r.Lists) != 0 || !r.Since.Equal(since) || !r.Until.Equal(expiry) || r.Version != 5 {
		t.Errorf("result %+v", r)
	}
	suspended := view.Suspend(true)
	if r := Of(suspended, below, below, suspended.Match(below, blocklist.AllCategories, since.Unix()), "operator"); r.IsBlocked() || !r.Observed {
		t.Errorf("while enforcement is suspended: %+v", r)
	}
	other, err := blocklist.AppendName(nil, "other.example")
	if err != nil {
		t.Fatal(err)
	}
	if r := Of(view, other, other, view.Match(other, blocklist.AllCategories, since.Unix()), "operator"); r.Outcome != Passes || r.Entry != "" {
		t.Errorf("another name: %+v", r)
	}
}

func TestListNames(t *testing.T) {
	var got []string
	for _, source := range []string{"phishing-army", "/etc/rempart/lists/bad.txt", `C:\lists\bad.txt`, "https://user:secret@lists.example/a/b.txt?token=x", "https://lists.example", "https://lists.example/v1/download/0123456789abcdef", "https://lists.example/k/secret/", "built in", ""} {
		got = append(got, ListName(source))
	}
	want := []string{"phishing-army", "bad.txt", "bad.txt", "lists.example b.txt", "lists.example", "lists.example", "lists.example", "built in", ""}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestHostNames(t *testing.T) {
	for name, want := range map[string]bool{"a.example": true, "xn--a_b.example": true, "x&reboot&.bad.com": false, "a'b.com": false, "-x.com": false, "": false, "a b": false} {
		if IsHostName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

func TestClient(t *testing.T) {
	for remote, want := range map[string]string{"192.0.2.1:5": "192.0.2.1", "[::ffff:192.0.2.1]:5": "192.0.2.1", "[fe80::1%eth0]:5": "fe80::1", "[2001:db8::1]:5": "2001:db8::1"} {
		if got := Client(&http.Request{RemoteAddr: remote}); got.String() != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
	if Client(&http.Request{}).IsValid() || Client(&http.Request{RemoteAddr: "@"}).IsValid() {
		t.Error("an address was read from nothing")
	}
}
