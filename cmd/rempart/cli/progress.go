package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"rempart/blocklist/feed"
	"rempart/cmd/rempart/report"
)

// progressDelay is how long reading or sending may take before progress is shown.
const progressDelay = 500 * time.Millisecond

// Progress keeps one line at the end of a terminal that shows the progress of reading lists or of a push. Other output is written through it, above the line.
// If the output is no terminal, it only passes output on. It is safe for concurrent use.
type Progress struct {
	out      io.Writer
	terminal bool
	delay    time.Duration

	mu    sync.Mutex
	began time.Time
	files map[string]feed.Progress // by list
	shown bool
	over  bool
}

// NewProgress returns a Progress that writes to out.
func NewProgress(out io.Writer) *Progress {
	under := out
	if r, ok := out.(redactor); ok {
		under = r.w
	}
	f, ok := under.(*os.File)
	return &Progress{
		out: out, terminal: ok && term.IsTerminal(int(f.Fd())), delay: progressDelay, began: time.Now(), files: map[string]feed.Progress{},
	}
}

// ListProgress returns a function for feed.Config.Progress; nil if the output is no terminal.
func (p *Progress) ListProgress() func(feed.Progress) {
	if !p.terminal {
		return nil
	}
	return p.show
}

func (p *Progress) show(read feed.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.files[read.List] = read
	if time.Since(p.began) < p.delay {
		return
	}
	var done, total int64
	for _, f := range p.files {
		done, total = done+f.Done, total+f.Total
	}
	if total == 0 {
		return
	}
	p.line("reading lists", done, total)
}

// line shows the progress of an operation. The caller holds mu.
func (p *Progress) line(what string, done, total int64) {
	fmt.Fprintf(p.out, "\r%s%s: %s of %s, %d %%", eraseLine, what, report.Bytes(done), report.Bytes(total), done*100/total)
	p.shown = true
}

// Upload returns a function that creates bodies of size total and shows how much of them was read. If the output is no terminal, it returns body.
func (p *Progress) Upload(body func() (io.ReadCloser, error), total int64) func() (io.ReadCloser, error) {
	if !p.terminal || total == 0 {
		return body
	}
	return func() (io.ReadCloser, error) {
		b, err := body()
		return &uploadBody{ReadCloser: b, progress: p, total: total}, err
	}
}

// uploadBody is a body that shows its progress.
type uploadBody struct {
	io.ReadCloser
	progress    *Progress
	done, total int64
	percent     int64
}

func (s *uploadBody) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	s.done += int64(n)
	p := s.progress
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := s.done * 100 / s.total; at != s.percent && !p.over && time.Since(p.began) >= p.delay {
		s.percent = at
		p.line("sending", s.done, s.total)
	}
	return n, err
}

// Write writes above the line.
func (p *Progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	return p.out.Write(b)
}

// End erases the line for good.
func (p *Progress) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	p.over = true
}

// eraseLine erases from the cursor to the end of the line (ECMA-48, EL).
const eraseLine = "\x1b[K"

func (p *Progress) wipe() {
	if p.shown {
		fmt.Fprint(p.out, "\r"+eraseLine)
		p.shown = false
	}
}
