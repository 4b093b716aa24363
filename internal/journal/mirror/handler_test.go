package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"testing"

	"rempart/internal/journal"
)

// failingJournal is a Journal whose methods return one error.
type failingJournal struct{ err error }

func (f failingJournal) Beat(context.Context, uint64) []byte            { return nil }
func (f failingJournal) Record(context.Context, uint64) ([]byte, error) { return nil, f.err }
func (f failingJournal) Newest(context.Context) (journal.SequencedRecord, error) {
	return journal.SequencedRecord{}, f.err
}
func (f failingJournal) Object(context.Context, string) (io.ReadCloser, error) { return nil, f.err }

// TestOnlyMissingRecordIsNotFound checks that the handler answers 404 only if a record does not exist, because followers then fetch the newest snapshot.
func TestOnlyMissingRecordIsNotFound(t *testing.T) {
	for err, want := range map[error]int{
		fmt.Errorf("record 7: %w", fs.ErrNotExist): http.StatusNotFound,
		errors.New("nats: timeout"):                http.StatusServiceUnavailable,
		context.DeadlineExceeded:                   http.StatusServiceUnavailable,
	} {
		h := NewHandler(failingJournal{err}, nil)
		for _, path := range []string{"/records/7", "/snapshot", "/objects/abc"} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != want {
				t.Errorf("%v: %s is answered %d, want %d", err, path, w.Code, want)
			}
		}
	}
}
