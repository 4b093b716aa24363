package feed

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"

	"rempart/blocklist"
	"rempart/blocklist/guard"
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

// Load reads the files that the guards go by, except Released, and returns the guards.
func (c GuardConfig) Load() (*guard.Guards, error) {
	cfg := guard.Config{Own: c.Own, OwnAddresses: c.OwnAddresses, Bound: c.Bound}
	for _, file := range []struct {
		path string
		to   *io.Reader
	}{{c.Essential, &cfg.Essential}, {c.Popular, &cfg.Popular}} {
		if file.path == "" {
			continue
		}
		f, err := os.Open(file.path)
		if err != nil {
			return nil, fmt.Errorf("what the guards go by: %w", err)
		}
		defer f.Close()
		text, err := Text(&bounded{r: f, left: maxBody})
		if err == nil && file.path == c.Essential {
			*file.to, err = essentialNames(text)
		} else {
			*file.to = text
		}
		if err != nil {
			return nil, fmt.Errorf("what the guards go by: %s: %w", file.path, err)
		}
	}
	return guard.New(cfg)
}

// maxEssential bounds the file of essential names, in bytes.
const maxEssential = 16 << 20

// essentialNames returns the lines of a file of essential names with each host, in any form that Indicator reads, as a plain name. Lines that it does not
// read stay as they are: the guards refuse them by their number.
func essentialNames(text io.Reader) (io.Reader, error) {
	var out bytes.Buffer
	lines := bufio.NewScanner(io.LimitReader(text, maxEssential+1))
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		line := lines.Bytes()
		host, only := bytes.CutPrefix(CutComment(bytes.Clone(line)), []byte("="))
		if name, _, err := Indicator(string(host)); err == nil {
			line = []byte(blocklist.NameText(name))
			if only {
				line = append([]byte("="), line...)
			}
		}
		out.Write(append(line, '\n'))
	}
	if out.Len() > maxEssential {
		return nil, ErrTooLarge
	}
	return &out, lines.Err()
}

// guards are the guards, and what a person released of what they hold.
type guards struct {
	*guard.Guards
	names map[string]bool // wire names that count though they are held
	lists map[string]bool
}

// guarding has the guards at hand while lists are read, and lets them go after. It is safe for concurrent use.
type guarding struct {
	cfg GuardConfig

	mu    sync.Mutex
	sum   uint64 // of all that guards go by
	known bool
	last  *guards // nil when let go
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

// reconfigured replaces what the guards go by.
func (g *guarding) reconfigured(cfg GuardConfig) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cfg, g.known, g.last = cfg, false, nil
}

// reload reads the files again. On an error what was read before stays, for lists that do not change; the others fail until the file is
// corrected, since nothing can judge them.
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
	g.sum, g.known, g.last = fresh.sum, true, all
	return nil
}

// letGo gives the guards' memory back until they are needed again; it reports whether there was any.
func (g *guarding) letGo() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	had := g.last != nil
	g.last = nil
	return had
}

// held reports whether there is any.
func (g *guarding) held() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last != nil
}

// get are the guards.
func (g *guarding) get() (*guards, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last != nil {
		return g.last, nil
	}
	made, err := g.cfg.Load()
	if err != nil {
		return nil, err
	}
	all := &guards{Guards: made}
	if all.names, all.lists, err = readReleased(g.cfg.Released); err != nil {
		return nil, err
	}
	g.last = all
	return all, nil
}

// releasedList reports whether a list may change out of proportion.
func (g *guarding) releasedList(name string) bool {
	all, err := g.get()
	return err == nil && all.lists[name]
}

// maxReleased bounds the file of what a person released, in octets.
const maxReleased = 16 << 20

func readReleased(path string) (names, lists map[string]bool, err error) {
	names, lists = map[string]bool{}, map[string]bool{}
	if path == "" {
		return names, lists, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrReleased, err)
	}
	defer f.Close()
	text, err := Text(&bounded{r: f, left: maxReleased})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", ErrReleased, path, err)
	}
	lines := bufio.NewScanner(text)
	for n := 1; lines.Scan(); n++ {
		line := string(CutComment(lines.Bytes()))
		if list, ok := strings.CutPrefix(line, "list:"); ok {
			lists[strings.TrimSpace(list)] = true
		} else if line != "" {
			name, _, err := Indicator(line)
			if err != nil {
				return nil, nil, fmt.Errorf("%w: %s, line %d: %q cannot be released: %w", ErrReleased, path, n, line, sentence(err))
			}
			names[string(name)] = true
		}
	}
	if err := lines.Err(); err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", ErrReleased, path, err)
	}
	return names, lists, nil
}

// released reports whether a held name counts all the same.
func (g *guards) released(l blocklist.Listing) bool { return l.Name != nil && g.names[string(l.Name)] }
