package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
)

// filledJournal opens a journal and writes records, audit records, objects and values.
func filledJournal(t *testing.T, c Config) *Stream {
	t.Helper()
	s := open(t, c)
	for i := range uint64(20) {
		appendOK(t, s, i, []string{"change", "snapshot"}[i%2], payload(i+1))
		if _, err := s.AppendAudit(t.Context(), i, payload(100+i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int{0, 1, 3 * chunkSize} {
		if err := s.PutObject(t.Context(), fmt.Sprintf("object-%d", size), bytes.NewReader(make([]byte, size))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range buckets() {
		for _, key := range []string{"name/ada", "hash/0f"} {
			if _, err := s.Bucket(name).Put(t.Context(), key, []byte(name+key)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

func copying(t *testing.T, dir string) Config {
	return Config{Dir: dir, Copying: true, Log: testLog(t)}
}

// TestCopy checks that Copy copies a journal, writes nothing to a complete copy, and refuses a destination with later writes or another journal.
func TestCopy(t *testing.T) {
	ctx := t.Context()
	from, to := filledJournal(t, copying(t, t.TempDir())), open(t, copying(t, t.TempDir()))
	report, err := Copy(ctx, from, to, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Records != 20 || report.Audits != 20 || report.Objects != 3 || report.Values != 10 || report.Written != 53 {
		t.Errorf("copied %+v", report)
	}
	collect(t, to.Reader, 0, 20)
	if report, err = Copy(ctx, from, to, nil); err != nil || report.Written != 0 {
		t.Errorf("copy again: %+v, %v", report, err)
	}
	if _, err := to.Bucket(Tokens).Put(ctx, "name/eve", nil); err != nil {
		t.Fatal(err)
	}
	other := open(t, copying(t, t.TempDir()))
	appendOK(t, other, 0, "change", payload(7))
	onlyToken := open(t, copying(t, t.TempDir()))
	if _, err := onlyToken.Bucket(Tokens).Put(ctx, "name/eve", nil); err != nil {
		t.Fatal(err)
	}
	for name, there := range map[string]*Stream{"another journal": other, "tokens of another": onlyToken} {
		before := states(t, there)
		if _, err := Copy(ctx, from, there, nil); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: Copy: error %v, want ErrForeign", name, err)
		}
		if after := states(t, there); after != before {
			t.Errorf("%s: it changed from %s to %s", name, before, after)
		}
	}
	if err := (&copier{from: from, to: to}).compare(ctx); !errors.Is(err, errDiffers) {
		t.Errorf("destination with its own token: error %v", err)
	}
	appendOK(t, to, 20, "change", payload(21))
	if _, err := Copy(ctx, from, to, nil); !errors.Is(err, ErrForeign) {
		t.Errorf("destination with its own record: error %v", err)
	}
}

// TestInterruptedCopyIsContinued checks that a copy that was interrupted at different records can be continued, also after later writes to the source, and that
// the destination can only be opened with Config.Copying until the copy is complete.
func TestInterruptedCopyIsContinued(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "to")
	from := filledJournal(t, copying(t, t.TempDir()))
	for i := 1; i <= 20; i += 6 {
		ctx, cancel := context.WithCancel(t.Context())
		to := open(t, copying(t, dir))
		_, err := Copy(ctx, from, to, func(records uint64) {
			if records >= uint64(i) {
				cancel()
			}
		})
		cancel()
		to.Close()
		if err == nil {
			t.Fatalf("at record %d the copy was not interrupted", i)
		}
		if s, err := Open(t.Context(), Config{Dir: dir}); !errors.Is(err, ErrCopying) {
			t.Errorf("opened an unfinished copy: %v; error %v, want ErrCopying", s != nil, err)
		}
	}
	appendOK(t, from, 20, "change", payload(21))
	if err := from.Bucket(Tokens).Delete(t.Context(), "name/ada"); err != nil {
		t.Fatal(err)
	}
	to := open(t, copying(t, dir))
	report, err := Copy(t.Context(), from, to, nil)
	if err != nil || report.Records != 21 || report.Values != 9 {
		t.Fatalf("Copy: %+v, %v; want 21 records and 9 values", report, err)
	}
	to.Close()
	collect(t, open(t, Config{Dir: dir, Log: testLog(t)}).Reader, 0, 21)
}

// TestCopyFromAnotherSourceIsRefused checks that an interrupted copy cannot be continued with another source.
func TestCopyFromAnotherSourceIsRefused(t *testing.T) {
	from, to := filledJournal(t, copying(t, t.TempDir())), open(t, copying(t, t.TempDir()))
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Copy(ctx, from, to, func(uint64) { cancel() }); err == nil {
		t.Fatal("the copy was not interrupted")
	}
	other := open(t, copying(t, t.TempDir()))
	appendOK(t, other, 0, "change", payload(99))
	if _, err := Copy(t.Context(), other, to, nil); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
}
