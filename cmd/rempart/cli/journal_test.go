package cli

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// TestStuckJournalDelaysNobody checks that a hundred records take less than a second while the journal hangs, that they are written to standard error, and that
// the journal is used again afterwards.
func TestStuckJournalDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang, sent := make(chan struct{}), 0
		var other bytes.Buffer
		log := slog.New(newJournalHandler(newBoundedJournal(func(string, journal.Priority, map[string]string) error {
			<-hang
			sent++
			return nil
		}).Send, &other))
		began := time.Now()
		for i := range 100 {
			log.Info(fmt.Sprint("record ", i))
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("100 records took %v", took)
		}
		if n := bytes.Count(other.Bytes(), []byte("(not in systemd's journal: it accepts no records at the moment)\n")); n != 100 {
			t.Errorf("%d records were written to standard error, want 100", n)
		}
		close(hang)
		synctest.Wait()
		time.Sleep(journalPause)
		log.Info("again")
		synctest.Wait()
		if sent != 2 || bytes.Contains(other.Bytes(), []byte("again")) {
			t.Errorf("%d records arrived in the journal, want the first one and the last one", sent)
		}
	})
}
