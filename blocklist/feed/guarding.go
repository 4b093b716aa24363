package feed

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"

	"rempart/blocklist"
	"rempart/blocklist/feed/bounded"
	"rempart/blocklist/feed/fetch"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/guard"
	"rempart/internal/durable"
)

// GuardConfig is what the guards go by beside the lists shipped with them. Paths are "" for none.
type GuardConfig struct {
	Essential    string       // more names that must never be blocked; see blocklist/guard
	Popular      string       // a popularity list instead of the shipped one
	Bound        int          // the last rank that is popular; 0: guard.DefaultBound
	Released     string       // what a person released: a held name a line, "list:NAME" for a list that may change out of proportion
	Own          []string     // names of this service
	OwnAddresses []netip.Addr // and its addresses
}

func (c GuardConfig) paths() (paths []string) {
	for _, p := range []string{c.Essential, c.Popular, c.Released} {
		if p != "" {
			paths = append(paths, p)
		}
	}
	return paths
}

// Load reads the files that the guards go by, except Released, and returns the guards. If lines of them cannot be read, the error is a *SkippedLines, and the guards
// that accompany it go by the other lines.
func (c GuardConfig) Load() (*guard.Guards, error) {
	cfg := guard.Config{Own: c.Own, OwnAddresses: c.OwnAddresses, Bound: c.Bound}
	skipped := &SkippedLines{Of: guard.ErrEssential, Path: c.Essential}
	for _, file := range []struct {
		path string
		to   *io.Reader
	}{{c.Essential, &cfg.Essential}, {c.Popular, &cfg.Popular}} {
		if file.path == "" {
			continue
		}
		f, err := durable.OpenRegular(file.path)
		if err != nil {
			return nil, fmt.Errorf("what the guards go by: %w", err)
		}
		defer f.Close()
		text, err := format.Text(bounded.NewReader(f, fetch.MaxBody))
		if err == nil && file.to == &cfg.Essential {
			*file.to, err = essentialNames(text, skipped)
		} else {
			*file.to = text
		}
		if err != nil {
			return nil, fmt.Errorf("what the guards go by: %s: %w", file.path, err)
		}
	}
	lines, usable := skipped.result()
	if !usable {
		return nil, lines
	}
	g, err := guard.New(cfg)
	if err != nil {
		return nil, err
	}
	return g, lines
}

// guards are the guards, and what a person released of what they hold.
type guards struct {
	*guard.Guards
	names map[string]bool // wire names that count though they are held
	lists map[string]bool
}

// guarding loads the guards when lists are read, and frees them afterwards. Guards of configured files stay in memory, so that they still judge lists if a file
// cannot be read any more. It is safe for concurrent use.
type guarding struct {
	cfg GuardConfig
	log func(*SkippedLines) // logs lines that are skipped; nil for nothing

	mu      sync.Mutex
	sum     uint64 // of all that guards go by
	known   bool
	last    *guards // nil when let go
	kept    *guards // of configured files, when let go
	skipped []*SkippedLines
	said    string // what was logged of skipped lines
}

// settings is a fingerprint of all that decides what is made of a list's content.
func (g *guarding) settings(li *list) (uint64, error) {
	if li.kind == KindAllow {
		return 0, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.known {
		if err := g.fingerprint(); err != nil {
			return 0, err
		}
	}
	return xxhash.Sum64String(fmt.Sprintf("%x %x", g.sum, li.form())), nil
}

func (g *guarding) fingerprint() error {
	hash := xxhash.New()
	fmt.Fprintf(hash, "%d %d %q %v", guard.Revision(), g.cfg.Bound, g.cfg.Own, g.cfg.OwnAddresses)
	for _, path := range g.cfg.paths() {
		sum, err := hashFile(path)
		if err != nil {
			return fmt.Errorf("what the guards go by: %w", err)
		}
		fmt.Fprintf(hash, " %x", sum)
	}
	g.sum, g.known = hash.Sum64(), true
	return nil
}

// reconfigured replaces what the guards go by. On an error the guards from before stay, and the next reload tries again.
func (g *guarding) reconfigured(cfg GuardConfig) error {
	g.mu.Lock()
	g.cfg = cfg
	if len(cfg.paths()) == 0 {
		g.known, g.last, g.kept = false, nil, nil
		g.note(nil)
		g.mu.Unlock()
		return nil
	}
	g.mu.Unlock()
	return g.reload()
}

// reload reads the files again. On an error the guards that were read before judge on, until the file is corrected.
func (g *guarding) reload() error {
	g.mu.Lock()
	cfg := g.cfg
	g.mu.Unlock()
	if len(cfg.paths()) == 0 {
		return nil
	}
	fresh := &guarding{cfg: cfg}
	if err := fresh.fingerprint(); err != nil { // first: a change after it is noticed
		return err
	}
	all, err := fresh.get()
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sum, g.known, g.last, g.kept = fresh.sum, true, all, nil
	g.note(fresh.skipped)
	return nil
}

// note takes in which lines were skipped, and has them logged unless they were.
func (g *guarding) note(skipped []*SkippedLines) {
	g.skipped = skipped
	text := ""
	for _, s := range skipped {
		text += s.Error() + "\n" + strings.Join(s.Lines, "\n")
	}
	if text == g.said {
		return
	}
	g.said = text
	for _, s := range skipped {
		if g.log != nil {
			g.log(s)
		}
	}
}

// skippedLines returns how many lines are skipped, of essential and of released names.
func (g *guarding) skippedLines() (essential, released int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.skipped {
		if s.Of == ErrReleased {
			released += s.Count
		} else {
			essential += s.Count
		}
	}
	return essential, released
}

// letGo gives the guards' memory back until they are needed again, except that of configured files; it reports whether they were at hand.
func (g *guarding) letGo() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	had := g.last != nil
	if had && len(g.cfg.paths()) > 0 {
		g.kept = g.last
	}
	g.last = nil
	return had
}

// held reports whether there is any.
func (g *guarding) held() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last != nil
}

// get returns the guards.
func (g *guarding) get() (*guards, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last == nil {
		g.last, g.kept = g.kept, nil
	}
	if g.last != nil {
		return g.last, nil
	}
	if !g.known {
		_ = g.fingerprint() // first: a change after it is noticed; Load reports why a file cannot be read
	}
	var skipped []*SkippedLines
	made, err := g.cfg.Load()
	if s, ok := isSkipped(err); ok {
		skipped, err = append(skipped, s), nil
	}
	if err != nil {
		return nil, err
	}
	all := &guards{Guards: made}
	all.names, all.lists, err = readReleased(g.cfg.Released)
	if s, ok := isSkipped(err); ok {
		skipped, err = append(skipped, s), nil
	}
	if err != nil {
		return nil, err
	}
	g.last = all
	g.note(skipped)
	return all, nil
}

// releasedList reports whether a list may change out of proportion.
func (g *guarding) releasedList(name string) bool {
	all, err := g.get()
	return err == nil && all.lists[name]
}

// released reports whether a held name counts all the same.
func (g *guards) released(l blocklist.Listing) bool { return l.Name != nil && g.names[string(l.Name)] }
