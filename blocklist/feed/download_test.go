package feed

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rempart/blocklist/feed/fetch"
	"rempart/blocklist/feed/fetch/fetchtest"
	"rempart/blocklist/feed/store"
)

func TestURLIsFetchedAndLastCopyUsed(t *testing.T) {
	f := newFixture(t)
	srv := fetchtest.NewServer(t)
	srv.Say("a.example\n")
	cfg := Config{Lists: []string{srv.URL + "/list?token=SECRET"}}
	l := f.once(cfg)
	if s := one(t, l); s.Kind != KindURL || s.Result != OK || s.Entries != 1 || !blocks(t, l, "a.example") {
		t.Errorf("status %+v", s)
	}
	srv.Close()
	l = f.once(cfg) // the list can no longer be fetched
	if s := one(t, l); s.Result != OK || s.Parses != 0 || l.Status().Waiting != "" || !blocks(t, l, "a.example") {
		t.Errorf("status %+v", s)
	}
	l = f.start(cfg)
	f.run(l)
	l.Reload()
	eventually(t, "a failure to be seen", func() bool { return one(t, l).Result == Stale })
	if !blocks(t, l, "a.example") {
		t.Error("the last good copy is not in force")
	}
	before := strings.Count(f.log.String(), "\n")
	l.Reload()
	time.Sleep(100 * time.Millisecond)
	if after := strings.Count(f.log.String(), "\n"); after != before {
		t.Errorf("retries logged %d lines", after-before)
	}
	secrets := f.log.String() + fmt.Sprint(l.Status())
	filepath.WalkDir(f.data, func(path string, d fs.DirEntry, _ error) error {
		if b, err := os.ReadFile(path); err == nil {
			secrets += string(b)
		}
		return nil
	})
	if strings.Contains(secrets, "SECRET") {
		t.Error("the URL's query was logged, shown or stored")
	}
}

func TestUnchangedListIsNotSentAgain(t *testing.T) {
	for name, header := range map[string][2]string{
		"ETag":          {"ETag", `"v1"`},
		"Last-Modified": {"Last-Modified", "Fri, 21 Aug 2026 10:00:00 GMT"},
		"no validator":  {"X-None", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			srv := fetchtest.NewServer(t)
			var same atomic.Int32
			srv.Do(func(w http.ResponseWriter, r *http.Request) {
				if r.UserAgent() != "rempart" {
					t.Errorf("User-Agent %q", r.UserAgent())
				}
				asked := r.Header.Get("If-None-Match") + r.Header.Get("If-Modified-Since")
				if asked != "" {
					if asked != header[1] {
						t.Errorf("asked with %q", asked)
					}
					same.Add(1)
					w.WriteHeader(http.StatusNotModified)
					return
				}
				w.Header().Set(header[0], header[1])
				io.WriteString(w, "a.example\n")
			})
			l := f.start(Config{Lists: []string{srv.URL}})
			f.run(l)
			fetched := one(t, l).Fetched
			l.Reload()
			eventually(t, "a second request", func() bool { return one(t, l).Fetched.After(fetched) })
			if s := one(t, l); s.Result != OK || s.Parses != 1 || l.Status().Version != 1 {
				t.Errorf("status %+v", s)
			}
			if want := header[1] != ""; (same.Load() > 0) != want {
				t.Errorf("%d answers with status 304, want some: %v", same.Load(), want)
			}
		})
	}
}

func TestFailedURLIsReported(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		line := bytes.Repeat([]byte("x.example\n"), 1000)
		for r.Context().Err() == nil {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    string // in the error
	}{
		{"500", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x.example", 500) }, "500 Internal Server Error"},
		{"404", http.NotFound, "404"},
		{"204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "204"},
		{"304 without a condition", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, "304"},
		{"empty body", func(w http.ResponseWriter, _ *http.Request) {}, "lists nothing"},
		{"HTML page", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<!DOCTYPE html>\nx.example\n") }, "not a list"},
		{"body never ends", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "x.example\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "deadline"},
		{"no answer", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline"},
		{"endless", endless, "too large"},
		{"endless gzip", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, fetchtest.Gzip(t, strings.Repeat("x.example\n", 1<<18)))
		}, "too large"},
		{"Content-Length too large", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99999999999")
			io.WriteString(w, "x.example\n")
		}, "too large"},
		{"body shorter than Content-Length", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, "x.example\n")
		}, "unexpected EOF"},
		{"broken gzip", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "x.example\n")
		}, "gzip"},
		{"redirect loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) }, "redirects"},
		{"redirect to a file", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/hosts", http.StatusFound)
		}, "redirected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			srv := fetchtest.NewServer(t)
			srv.Say("a.example\n")
			cfg := Config{Lists: []string{srv.URL + "/?token=SECRET"}}
			f.once(cfg)

			srv.Do(tt.handler)
			l := f.new(cfg)
			l.fetch = fetch.NewClient(fetch.Config{MaxBody: 1 << 20})
			if tt.want == "deadline" {
				l.timing.fetch = 300 * time.Millisecond
			}
			if err := l.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			stop := f.run(l)
			l.Reload()
			eventually(t, "the failure", func() bool { return one(t, l).Result == Stale })
			if s := one(t, l); !strings.Contains(s.Err, tt.want) || strings.Contains(s.Err, "SECRET") || s.Entries != 1 {
				t.Errorf("status %+v, want an error with %q", s, tt.want)
			}
			if !blocks(t, l, "a.example") || blocks(t, l, "x.example") {
				t.Error("the last good copy is not in force")
			}
			srv.Say("b.example\n")
			eventually(t, "recovery", func() bool { return blocks(t, l, "b.example") && one(t, l).Result == OK })
			stop()
			if left, _ := filepath.Glob(filepath.Join(f.data, listsFolder, "*"+store.NewBodySuffix)); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestCertificateAndRedirectOfURLAreChecked(t *testing.T) {
	f := newFixture(t)
	plain := fetchtest.NewServer(t)
	plain.Say("a.example\n")
	var target atomic.Value
	target.Store("")
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := target.Load().(string); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		io.WriteString(w, "a.example\n")
	}))
	defer secure.Close()
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	cfg := Config{Lists: []string{secure.URL}}
	l := f.once(cfg)
	if s := one(t, l); s.Result != Failed || !strings.Contains(s.Err, "certificate") || l.Status().Waiting == "" {
		t.Errorf("an unknown authority: %+v", s)
	}
	trusted := func() *Lists {
		l := f.new(cfg)
		roots := x509.NewCertPool()
		roots.AddCert(secure.Certificate())
		l.fetch = fetch.NewClient(fetch.Config{RootCAs: roots})
		return l
	}
	target.Store(plain.URL)
	l = trusted()
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := one(t, l); s.Result != Failed || !strings.Contains(s.Err, "from https to http") {
		t.Errorf("downgrade: %+v", s)
	}
	target.Store("")
	f.run(l)
	eventually(t, "the list", func() bool { return blocks(t, l, "a.example") })
}

func TestSlowURLDoesNotDelayStart(t *testing.T) {
	f := newFixture(t)
	slow, quick := fetchtest.NewServer(t), fetchtest.NewServer(t)
	release := make(chan struct{})
	slow.Do(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			io.WriteString(w, "slow.example\n")
		case <-r.Context().Done():
		}
	})
	quick.Say("quick.example\n")
	cfg := Config{Lists: []string{slow.URL, quick.URL, f.file("a.txt", "a.example\n")}}
	began := func(within time.Duration) *Lists {
		l := f.new(cfg)
		l.timing.start = within
		if err := l.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return l
	}
	within := 300 * time.Millisecond
	l := began(within)
	for ; !blocks(t, l, "quick.example") && within < time.Minute; within *= 4 { // a slow machine may take longer to fetch the quick list
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Run(ended); err != nil {
			t.Fatal(err)
		}
		l = began(within)
	}
	s := l.Status()
	if !blocks(t, l, "a.example") || !blocks(t, l, "quick.example") || s.Lists[0].Result != Waiting {
		t.Errorf("status %+v", s)
	}
	if !strings.Contains(s.Waiting, slow.URL) || strings.Contains(s.Waiting, "more") {
		t.Errorf("waiting: %q", s.Waiting)
	}
	f.run(l)
	close(release)
	eventually(t, "the slow list", func() bool { return blocks(t, l, "slow.example") && l.Status().Waiting == "" })
}
