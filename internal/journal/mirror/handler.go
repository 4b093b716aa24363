package mirror

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"rempart/internal/journal"
)

// Journal is what is served.
type Journal interface {
	// Beat is the newest heartbeat, once it speaks of a later version, or ctx ended.
	Beat(ctx context.Context, after uint64) []byte
	// Record is the record that made a version; Newest that of the newest snapshot. Errors are that there is none.
	Record(ctx context.Context, version uint64) ([]byte, error)
	Newest(ctx context.Context) (journal.Entry, error)
	Object(ctx context.Context, name string) (io.ReadCloser, error)
}

// NewHandler serves a journal below a path that was stripped. report takes a node's status; node tells who sends it, as the caller of
// the handler made sure.
func NewHandler(j Journal, report func(r *http.Request, status []byte) error) http.Handler {
	h := &handler{j}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /head", h.head)
	mux.HandleFunc("GET /snapshot", h.snapshot)
	mux.HandleFunc("GET /records/{version}", h.record)
	mux.HandleFunc("GET /objects/{name}", h.object)
	mux.HandleFunc("POST /status", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, journal.MaxStatus))
		if err == nil {
			err = report(r, data)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

type handler struct{ j Journal }

func (h *handler) head(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.ParseUint(r.FormValue("after"), 10, 64)
	wait, _ := strconv.Atoi(r.FormValue("wait"))
	ctx, cancel := context.WithTimeout(r.Context(), min(time.Duration(max(wait, 0))*time.Second, waitFor))
	defer cancel()
	data := h.j.Beat(ctx, after)
	if data == nil {
		http.Error(w, "no heartbeat was published yet", http.StatusServiceUnavailable)
		return
	}
	send(w, data, "no-store")
}

func (h *handler) snapshot(w http.ResponseWriter, r *http.Request) {
	e, err := h.j.Newest(r.Context())
	if err != nil {
		http.Error(w, "no snapshot was published yet", http.StatusNotFound)
		return
	}
	send(w, e.Data, "no-store")
}

func (h *handler) record(w http.ResponseWriter, r *http.Request) {
	version, err := strconv.ParseUint(r.PathValue("version"), 10, 64)
	var data []byte
	if err == nil {
		data, err = h.j.Record(r.Context(), version)
	}
	if err != nil {
		http.Error(w, "no record of that version is here", http.StatusNotFound)
		return
	}
	send(w, data, "public, max-age=31536000, immutable")
}

func (h *handler) object(w http.ResponseWriter, r *http.Request) {
	o, err := h.j.Object(r.Context(), r.PathValue("name"))
	if err != nil {
		http.Error(w, "no such object is here", http.StatusNotFound)
		return
	}
	defer o.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	control := http.NewResponseController(w)
	buf := make([]byte, 256<<10)
	for {
		n, err := o.Read(buf)
		if n > 0 {
			if e := control.SetWriteDeadline(time.Now().Add(objectStall)); e != nil && !errors.Is(e, http.ErrNotSupported) {
				return
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // or what was sent would look whole
		}
	}
}

func send(w http.ResponseWriter, data []byte, cache string) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", cache)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data) // whoever asked went away
}
