package guardfile

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"rempart/blocklist"
	"rempart/blocklist/feed/bounded"
	"rempart/blocklist/guard"
	"rempart/internal/durable"
	"rempart/internal/filewatch"
)

// Config names the files of the guards and the names of this service. The zero value stands for the shipped lists. A path is "" for none.
type Config struct {
	Essential    string       // more names that must never be blocked; see blocklist/guard
	Popular      string       // a popularity list instead of the shipped one
	Bound        int          // the last rank that is popular; 0: guard.DefaultBound
	Released     string       // released names, one per line; "list:NAME" for a list that may change out of proportion
	Own          []string     // names of this service
	OwnAddresses []netip.Addr // addresses of this service
}

// Paths returns the paths of the files.
func (c Config) Paths() (paths []string) {
	for _, p := range []string{c.Essential, c.Popular, c.Released} {
		if p != "" {
			paths = append(paths, p)
		}
	}
	return paths
}

// Guards are the guards and the names and lists that a person released. They never change.
type Guards struct {
	*guard.Guards
	released
}

// released holds the content of the file of released names.
type released struct {
	names map[string]bool // wire names
	lists map[string]bool // names of lists
}

// IsReleased reports whether a person released the name of a listing: it is in effect although a guard holds it.
func (g *Guards) IsReleased(l blocklist.Listing) bool {
	return l.Name != nil && g.names[string(l.Name)]
}

// IsReleasedList reports whether a list may change out of proportion.
func (g *Guards) IsReleasedList(name string) bool { return g.lists[name] }

// Loader owns the files of the guards. If a changed file cannot be used, the guards from before stay in use. Guards of configured files stay in
// memory, so that they are at hand when a file becomes unreadable; guards of the shipped lists alone are loaded when they are needed. Its
// methods are safe for concurrent use.
type Loader struct {
	log     *slog.Logger
	watch   *filewatch.Watcher
	changed chan struct{}

	reloading sync.Mutex // one reload at a time
	mu        sync.Mutex
	cfg       Config
	guards    *Guards // nil: not in memory
	acquired  bool    // since the last Release
	keep      bool    // guards stay in memory in any case
	sum       uint64  // of all that decides about a listing; see Fingerprint
	summed    bool
	skipped   []*SkippedLines
	logged    string // the skipped lines that were logged
	problem   string // the error of the last reload; "" if it succeeded
}

// New returns a Loader of the files that cfg names. If one of them cannot be used, it returns an error, which wraps ErrReleased,
// guard.ErrEssential or guard.ErrPopular, or is about the path. Lines that cannot be read are skipped and logged.
func New(cfg Config, log *slog.Logger) (*Loader, error) {
	l := &Loader{
		log: log, cfg: cfg, changed: make(chan struct{}, 1),
		watch: filewatch.New(cfg.Paths()...), // before any file is read: a later change is detected
	}
	if len(cfg.Paths()) > 0 { // the shipped lists are known to be good
		if _, err := l.Guards(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Guards returns the guards in use. Loading them, if they are not in memory, takes some tens of milliseconds.
func (l *Loader) Guards() (*Guards, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current()
}

// Acquire is Guards for a reader of lists, which calls Release after the last list.
func (l *Loader) Acquire() (*Guards, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acquired = true
	return l.current()
}

// Acquired reports whether the guards were acquired since the last Release.
func (l *Loader) Acquired() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acquired
}

// Release frees the memory of guards that can be loaded again from the shipped lists. It reports whether they were acquired.
func (l *Loader) Release() (wasAcquired bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wasAcquired, l.acquired = l.acquired, false
	if len(l.cfg.Paths()) == 0 && !l.keep {
		l.guards = nil
	}
	return wasAcquired
}

// KeepInMemory makes the guards stay in memory from their next use on.
func (l *Loader) KeepInMemory() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep = true
}

// current returns the guards in use and loads them first if necessary.
func (l *Loader) current() (*Guards, error) {
	if l.guards != nil {
		return l.guards, nil
	}
	_ = l.ensureSum() // before loading: a later change is detected; load reports why a file cannot be read
	g, skipped, err := l.cfg.load()
	if err != nil {
		return nil, err
	}
	l.guards = g
	l.noteSkipped(skipped)
	return g, nil
}

// Fingerprint identifies all that decides about a listing: files, names of this service, and the version of the shipped lists.
func (l *Loader) Fingerprint() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.ensureSum()
	return l.sum, err
}

// ensureSum computes the sum unless it is known.
func (l *Loader) ensureSum() error {
	if l.summed {
		return nil
	}
	sum, err := l.cfg.fingerprint()
	l.sum, l.summed = sum, err == nil
	return err
}

// fingerprint computes the result of Loader.Fingerprint.
func (c Config) fingerprint() (uint64, error) {
	hash := xxhash.New()
	fmt.Fprintf(hash, "%d %d %q %v", guard.Revision(), c.Bound, c.Own, c.OwnAddresses)
	for _, path := range c.Paths() {
		sum, err := sumOf(path)
		if err != nil {
			return 0, fmt.Errorf("file of the guards: %w", err)
		}
		fmt.Fprintf(hash, " %x", sum)
	}
	return hash.Sum64(), nil
}

// sumOf returns the hash of a file.
func sumOf(path string) (uint64, error) {
	f, err := durable.OpenRegular(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	hash := xxhash.New()
	if _, err := io.Copy(hash, bounded.NewReader(f, maxPopular)); err != nil {
		return 0, err
	}
	return hash.Sum64(), nil
}

// Reload reads the files again and reports whether the guards changed. On an error the guards from before stay in use until the file is
// corrected. It logs a change, and each problem once.
func (l *Loader) Reload() (changed bool, err error) {
	l.reloading.Lock()
	defer l.reloading.Unlock()
	l.mu.Lock()
	cfg := l.cfg
	l.mu.Unlock()
	if len(cfg.Paths()) == 0 {
		return false, nil
	}
	return l.load(cfg)
}

// Replace makes cfg the configuration and loads its files. On an error the guards from before stay in use, and Reload tries again.
func (l *Loader) Replace(cfg Config) error {
	l.reloading.Lock()
	defer l.reloading.Unlock()
	l.watch.Set(cfg.Paths()...)
	l.mu.Lock()
	l.cfg = cfg
	if len(cfg.Paths()) == 0 && !l.keep {
		l.guards, l.summed, l.problem = nil, false, ""
		l.noteSkipped(nil)
		l.mu.Unlock()
		l.notify()
		return nil
	}
	l.mu.Unlock()
	_, err := l.load(cfg)
	return err
}

// load loads the files of cfg, the current configuration, if their content is not the one in use.
func (l *Loader) load(cfg Config) (changed bool, err error) {
	sum, err := cfg.fingerprint() // before loading: a later change is detected
	if err == nil && l.isInUse(sum) {
		return false, nil
	}
	var fresh *Guards
	var skipped []*SkippedLines
	if err == nil {
		fresh, skipped, err = cfg.load()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if problem := err.Error(); problem != l.problem {
			l.problem = problem
			l.log.Error("a file of the guards cannot be used; its earlier content stays in effect until the file is corrected", "err", err)
		}
		return false, err
	}
	l.guards, l.sum, l.summed, l.problem = fresh, sum, true, ""
	l.noteSkipped(skipped)
	if paths := cfg.Paths(); len(paths) > 0 {
		l.log.Info("a changed file is in use", "files", strings.Join(paths, ", "))
	}
	l.notify()
	return true, nil
}

// isInUse reports whether the guards in memory have that fingerprint. The last reload succeeded then.
func (l *Loader) isInUse(sum uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.guards == nil || !l.summed || l.sum != sum {
		return false
	}
	if l.problem != "" {
		l.log.Info("the files of the guards hold the content in use again")
	}
	l.problem = ""
	return true
}

// Problem returns the error of the last reload, "" if it succeeded.
func (l *Loader) Problem() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.problem
}

// notify makes Changed receive.
func (l *Loader) notify() {
	select {
	case l.changed <- struct{}{}:
	default: // an earlier change was not received yet
	}
}

// Changed returns a channel that receives after the guards changed. It is for one receiver.
func (l *Loader) Changed() <-chan struct{} { return l.changed }

// Run calls Reload whenever one of the files changes, until ctx ends. It looks at the files once per interval.
func (l *Loader) Run(ctx context.Context, interval time.Duration) {
	l.watch.Run(ctx, interval, func([]string) { _, _ = l.Reload() }) // which logs the error
}

// noteSkipped stores the skipped lines and logs them unless the same lines were logged before.
func (l *Loader) noteSkipped(skipped []*SkippedLines) {
	l.skipped = slices.Clone(skipped)
	text := ""
	for _, s := range skipped {
		text += s.Error() + "\n" + strings.Join(s.Lines, "\n")
	}
	if text == l.logged {
		return
	}
	l.logged = text
	for _, s := range skipped {
		l.log.Error("lines of a file of the guards cannot be read and are skipped; the others are in effect: correct them",
			"file", s.Path, "skipped", s.Count, "err", s, "lines", strings.Join(s.Lines, "; "))
	}
}

// Skipped returns the numbers of skipped lines of essential and of released names.
func (l *Loader) Skipped() (essential, released int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.skipped {
		if s.Of == ErrReleased {
			released += s.Count
		} else {
			essential += s.Count
		}
	}
	return essential, released
}

// EachPopular calls each for the names of the popularity list; see guard.EachPopular.
func (l *Loader) EachPopular(each func(rank int, name []byte) error) error {
	l.mu.Lock()
	path := l.cfg.Popular
	l.mu.Unlock()
	if path == "" {
		return guard.EachPopular(nil, each)
	}
	f, err := durable.OpenRegular(path)
	if err != nil {
		return fmt.Errorf("popularity list: %w", err)
	}
	defer f.Close()
	return guard.EachPopular(bounded.NewReader(f, maxPopular), each)
}
