package fetch

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// server serves one list over HTTP. handler answers its requests.
type server struct {
	*httptest.Server
	handler  atomic.Pointer[http.HandlerFunc]
	requests atomic.Int32
}

func newServer(t *testing.T) *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	(*s.handler.Load())(w, r)
}

func (s *server) do(h http.HandlerFunc) { s.handler.Store(&h) }

func (s *server) say(body string) {
	s.do(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) })
}
