package mirror

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"time"

	"rempart/internal/journal"
)

// Journal is the journal that a handler serves or a folder copies.
type Journal interface {
	// Beat returns the newest heartbeat, once it names another version than after, or when ctx ends.
	Beat(ctx context.Context, after uint64) []byte
	// Record returns the record of a version, Newest the record of the newest snapshot, and Object an object by its name. An error that wraps fs.ErrNotExist
	// means that it does not exist. Other errors do not say whether it exists.
	Record(ctx context.Context, version uint64) ([]byte, error)
	Newest(ctx context.Context) (journal.SequencedRecord, error)
	Object(ctx context.Context, name string) (io.ReadCloser, error)
}

// NewHandler serves a journal. Paths must be stripped of the prefix. It calls report with the body of each status request; the caller of the handler must have
// authenticated the node.
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
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // otherwise the deadline would look like a closed connection
			err = report(r, data)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := setWriteDeadline(w, maxWait+stallTimeout); err != nil {
			return
		}
		if r.Body != nil && r.Body != http.NoBody { // a body that does not arrive must not block a goroutine
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		mux.ServeHTTP(w, r)
	})
}

// bodyTimeout bounds the time until the body of a request has arrived.
const bodyTimeout = 10 * time.Second

// setWriteDeadline bounds the time of writes to w from now on, so that a client that does not read cannot block a goroutine.
func setWriteDeadline(w http.ResponseWriter, d time.Duration) error {
	err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d))
	if errors.Is(err, http.ErrNotSupported) { // not a connection of http.Server
		return nil
	}
	return err
}

type handler struct{ j Journal }

func (h *handler) head(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.ParseUint(r.FormValue("after"), 10, 64)
	wait, _ := strconv.Atoi(r.FormValue("wait"))
	ctx, cancel := context.WithTimeout(r.Context(), min(time.Duration(max(wait, 0))*time.Second, maxWait))
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
		fail(w, err, "no snapshot was published yet")
		return
	}
	send(w, e.Data, "no-store")
}

func (h *handler) record(w http.ResponseWriter, r *http.Request) {
	const notFound = "there is no record of that version"
	version, err := strconv.ParseUint(r.PathValue("version"), 10, 64)
	if err != nil {
		http.Error(w, notFound, http.StatusNotFound)
		return
	}
	data, err := h.j.Record(r.Context(), version)
	if err != nil {
		fail(w, err, notFound)
		return
	}
	send(w, data, "public, max-age=31536000, immutable")
}

func (h *handler) object(w http.ResponseWriter, r *http.Request) {
	o, err := h.j.Object(r.Context(), r.PathValue("name"))
	if err != nil {
		fail(w, err, "there is no such object")
		return
	}
	defer o.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	buf := make([]byte, pieceSize)
	for {
		n, err := o.Read(buf)
		if n > 0 {
			if !write(w, buf[:n]) {
				return
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // otherwise the partial answer would look complete
		}
	}
}

// fail answers 404 if there is nothing to send, which a follower takes for a gap in the journal, and 503 if the journal could not be read.
func fail(w http.ResponseWriter, err error, notFound string) {
	if errors.Is(err, fs.ErrNotExist) {
		http.Error(w, notFound, http.StatusNotFound)
		return
	}
	w.Header().Set("Retry-After", "1")
	http.Error(w, "the journal cannot be read now; try again", http.StatusServiceUnavailable)
}

func send(w http.ResponseWriter, data []byte, cache string) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", cache)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	for p := range slices.Chunk(data, pieceSize) {
		if !write(w, p) {
			return
		}
	}
}

// pieceSize is the number of bytes that must be written within stallTimeout.
const pieceSize = 256 << 10

// write writes a piece. It returns false if the client is gone or too slow.
func write(w http.ResponseWriter, p []byte) bool {
	if setWriteDeadline(w, stallTimeout) != nil {
		return false
	}
	_, err := w.Write(p)
	return err == nil
}
