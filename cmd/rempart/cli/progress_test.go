package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"rempart/blocklist/feed"
)

// TestProgress checks that the progress is one line that is overwritten, that other output appears above it, and that it is erased at the end.
func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out)
	if p.ListProgress() != nil {
		t.Error("progress is shown although the output is not a terminal")
	}
	p.terminal = true
	show := p.ListProgress()
	show(feed.Progress{List: "a", Done: 5_000, Total: 50_000})
	if out.Len() > 0 {
		t.Errorf("progress is shown before the delay: %q", out.String())
	}
	p.began = time.Now().Add(-progressDelay)
	show(feed.Progress{List: "b", Done: 20_000, Total: 50_000})
	show(feed.Progress{List: "a", Done: 50_000, Total: 50_000})
	fmt.Fprintln(p, "a line of the log")
	show(feed.Progress{List: "b", Done: 30_000_000, Total: 60_000_000})
	p.End()
	show(feed.Progress{List: "b", Done: 50_000, Total: 50_000})
	fmt.Fprintln(p, "another")
	want := "\r\x1b[Kreading lists: 25 kB of 100 kB, 25 %" +
		"\r\x1b[Kreading lists: 70 kB of 100 kB, 70 %" +
		"\r\x1b[Ka line of the log\n" +
		"\r\x1b[Kreading lists: 30 MB of 60 MB, 50 %" +
		"\r\x1b[Kanother\n"
	if got := out.String(); got != want {
		t.Errorf("written:\n%q\nwant:\n%q", got, want)
	}
}

// TestProgressOfSending checks that the progress of an upload is the part of the body that was read, and begins again with each attempt.
func TestProgressOfSending(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out)
	p.terminal, p.began = true, time.Now().Add(-progressDelay)
	body := p.Upload(func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("0123456789")), nil }, 10)
	for range 2 {
		b, err := body()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, b, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
	}
	p.End()
	try := "\r\x1b[Ksending: 5 B of 10 B, 50 %\r\x1b[Ksending: 10 B of 10 B, 100 %"
	if got, want := out.String(), try+try+"\r\x1b[K"; got != want {
		t.Errorf("written:\n%q\nwant:\n%q", got, want)
	}
}
