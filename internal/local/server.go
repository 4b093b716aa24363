package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

// maxPath is the longest path of a Unix socket that every system accepts, in bytes.
const maxPath = 103

// ErrTaken says that another server answers on the socket.
var ErrTaken = errors.New("another server answers on it")

// Listen opens a socket at path that only this user and root can open. A socket that an earlier server left there is replaced.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("the path has %d bytes, and a socket's has at most %d", len(path), maxPath)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&fs.ModeSocket == 0 {
			return nil, errors.New("a file that is no socket is there")
		}
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, ErrTaken
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Answers holds the functions that answer the requests on the socket. They are called concurrently.
type Answers struct {
	Settings  func() map[string]string                       // the variables that the server was started with
	Status    func() Status                                  // the state of the server
	NotReady  func() string                                  // why queries should not be sent to the server; "" if it is ready
	Upstreams func() []UpstreamGroup                         // the upstreams of each part of the name space
	Check     func(ctx context.Context, name string) Verdict // the verdict that a client gets for name
	Matches   func(least uint64) []Match                     // entries with at least that many hits, most hits first
	Reload    func()                                         // reads the files again that SIGHUP reads
	Metrics   http.Handler                                   // the metrics, in Prometheus' text format
}

const (
	timeout = 30 * time.Second
	maxBody = 4 << 10
)

// Serve answers on l until ctx ends, and closes it.
func Serve(ctx context.Context, l net.Listener, a Answers) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /settings", func(w http.ResponseWriter, _ *http.Request) { reply(w, a.Settings()) })
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { reply(w, a.Status()) })
	mux.HandleFunc("GET /readiness", func(w http.ResponseWriter, _ *http.Request) { reply(w, readiness{NotReady: a.NotReady()}) })
	mux.HandleFunc("GET /upstreams", func(w http.ResponseWriter, _ *http.Request) { reply(w, a.Upstreams()) })
	mux.HandleFunc("POST /check", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Name string }
		if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&in); err != nil {
			http.Error(w, "not a name to check: "+err.Error(), http.StatusBadRequest)
			return
		}
		reply(w, a.Check(r.Context(), in.Name))
	})
	mux.HandleFunc("POST /matches", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Least uint64 }
		if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&in); err != nil {
			http.Error(w, "not a number of hits: "+err.Error(), http.StatusBadRequest)
			return
		}
		reply(w, a.Matches(in.Least))
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) { a.Metrics.ServeHTTP(w, r) })
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, _ *http.Request) { a.Reload(); w.WriteHeader(http.StatusNoContent) })
	s := &http.Server{
		Handler: mux, ReadHeaderTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, IdleTimeout: timeout, MaxHeaderBytes: 4 << 10,
		ErrorLog: log.New(io.Discard, "", 0),
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client closed the connection
}
