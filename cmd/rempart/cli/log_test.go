package cli

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"

	"rempart/internal/config"
)

// TestJournalHasFields checks the message, the priority and the fields of a record in systemd's journal.
func TestJournalHasFields(t *testing.T) {
	var message string
	var priority journal.Priority
	var fields map[string]string
	h := newJournalHandler(func(m string, p journal.Priority, f map[string]string) error {
		message, priority, fields = m, p, f
		return nil
	}, io.Discard)
	log := slog.New(h).With("list", "https://user:secret@lists.example/a").WithGroup("last")
	log.Warn("a list could not be fetched", "err-text", errors.New("HTTP 404"), slog.Group("copy", "age", 3))
	if want := `a list could not be fetched list=https://xxxxx@lists.example/a last.err-text="HTTP 404" last.copy.age=3`; message != want || priority != journal.PriWarning {
		t.Errorf("message %q, priority %v; want %q", message, priority, want)
	}
	want := map[string]string{"REMPART_LIST": "https://xxxxx@lists.example/a", "REMPART_LAST_ERR_TEXT": "HTTP 404", "REMPART_LAST_COPY_AGE": "3"}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Error(diff)
	}
}

// TestLogFormats checks that text and JSON are written.
func TestLogFormats(t *testing.T) {
	for format, want := range map[config.LogFormat]string{config.LogText: `msg="set in force" version=3`, config.LogJSON: `"msg":"set in force","version":3`} {
		var out bytes.Buffer
		log, err := NewLog(format, &out)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("set in force", "version", 3)
		if !bytes.Contains(out.Bytes(), []byte(want)) {
			t.Errorf("%s: %s, want %s", format, out.String(), want)
		}
	}
}

// TestRecordsAreWrittenWithoutJournal checks that records are not lost while the journal takes none.
func TestRecordsAreWrittenWithoutJournal(t *testing.T) {
	var other bytes.Buffer
	log := slog.New(newJournalHandler(func(string, journal.Priority, map[string]string) error { return errors.New("refused") }, &other))
	log.Warn("a list could not be fetched", "list", "https://lists.example/a\nb")
	if want := `WARN a list could not be fetched list="https://lists.example/a\nb" (not in systemd's journal: refused)`; strings.TrimSpace(other.String()) != want {
		t.Errorf("written: %s, want %s", other.String(), want)
	}
}
