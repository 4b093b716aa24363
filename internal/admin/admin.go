// Package admin serves metrics for monitoring, and whether the process works and should get queries.
package admin

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// New returns the handler of /metrics, /livez and /readyz. ready returns a sentence that says why the process is not ready, or "" if it is. No answer contains
// a client address.
func New(gatherer prometheus.Gatherer, ready func() (why string)) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", Metrics(gatherer))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := ready(); why != "" {
			reply(w, http.StatusServiceUnavailable, "not ready: "+why)
			return
		}
		reply(w, http.StatusOK, "ready")
	})
	return mux
}

// Metrics returns the handler of the metrics.
func Metrics(gatherer prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{})
}

// Misdirected refuses a request whose Host is no name of a listener on a loopback address.
func Misdirected(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusMisdirectedRequest, "Host is no name of this listener: ask by its address or as localhost; for others, set REMPART_METRICS_LISTEN to an address of your network")
}

func reply(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	fmt.Fprintln(w, strings.TrimSpace(text))
}
