// Package fetchtest holds tools for the tests of lists: a web server, encodings and documents. Only tests import this package.
package fetchtest

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf16"
)

// Server serves one list over HTTP, until the test ends. Set a handler with Do or Say before the first request. It is safe for concurrent use.
type Server struct {
	*httptest.Server
	handler  atomic.Pointer[http.HandlerFunc]
	requests atomic.Int32
}

// NewServer starts a Server.
func NewServer(t testing.TB) *Server {
	s := &Server{}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	(*s.handler.Load())(w, r)
}

// Do makes h answer the requests from now on.
func (s *Server) Do(h http.HandlerFunc) { s.handler.Store(&h) }

// Say answers the requests with body from now on.
func (s *Server) Say(body string) {
	s.Do(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) })
}

// Requests returns the number of requests received so far.
func (s *Server) Requests() int { return int(s.requests.Load()) }

// Gzip returns content compressed with gzip.
func Gzip(t testing.TB, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, content)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// UTF16 returns text in UTF-16, without a byte order mark. The first byte of a unit is the high one if big is true.
func UTF16(text string, big bool) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(text)) {
		low, high := byte(u), byte(u>>8)
		if big {
			low, high = high, low
		}
		b.WriteByte(low)
		b.WriteByte(high)
	}
	return b.String()
}

// ErrorObjects returns JSON documents that report an error and contain a name or a URL: they list nothing.
func ErrorObjects() []string {
	return []string{
		`{"error":"gone","url":"https://new.example/"}`,
		`{"errors":[{"detail":"gone"}],"url":"https://new.example/"}`,
		`{"message":"Not Found","documentation_url":"https://docs.example/","url":"https://new.example/"}`,
		`{"status":404,"title":"Not Found","url":"https://new.example/"}`,
		`{"status":"error","url":"https://new.example/"}`,
		`{"success":false,"url":"https://new.example/","domain":"new.example"}`,
		`{"error":{"code":429,"url":"https://new.example/"}}`,
		`[{"error":"gone","url":"https://new.example/"}]`,
		`{"data":[{"error_code":410,"url":"https://new.example/"}]}`,
		`{"code":"rate_limited","error_message":"slow down","host":"new.example"}`,
		`{"detail":"Not found","domain":"new.example"}`,
		`{"code":"E1","msg":"quota","url":"https://new.example/"}`,
		`{"code":"E1","url":"https://new.example/"}`,
		`{"fault":{"faultstring":"Invalid ApiKey","detail":{"errorcode":"x"}},"url":"https://new.example/"}`,
		`{"query_status":"illegal_key","host":"new.example"}`,
		`{"errmsg":"quota","domain":"new.example"}`,
	}
}
