package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch"
	"rempart/blocklist/feed/guardfile"
	"rempart/blocklist/feed/store"
	"rempart/blocklist/guard"
	"rempart/internal/filewatch"
)

// Config configures Lists. Dir is required.
type Config struct {
	Lists   []string            // paths of files, http and https URLs
	Feeds   []Feed              // lists with settings of their own; see ReadFeeds
	Allow   string              // path of the operator's allow list; "" for none
	BuiltIn []blocklist.Listing // listings of the program itself, as the source "built in"
	Guards  *guardfile.Loader   // the guards that listings pass; nil: those of the shipped lists

	Dir      string        // the data folder, used by this process only
	Refresh  time.Duration // the interval at which URLs are fetched, and files looked at without a reported change; 0: one hour
	ReadOnly bool          // write and fetch nothing: use the copies in Dir, and read files that have no copy

	Dial  func(ctx context.Context, network, addr string) (net.Conn, error) // nil: net.Dialer
	Proxy func(*url.URL) (*url.URL, error)                                  // returns the proxy for a URL, nil for none; the function may be nil

	Log       *slog.Logger        // nil: nothing is logged
	Progress  func(Progress)      // called at intervals while files are read, from any goroutine; may be nil
	Changed   func()              // called by the writer after it published another set; must not block; may be nil
	LowMemory func() (end func()) // called from any goroutine when lists begin to be read or compiled; end is called when that ends; may be nil
}

const (
	builtInName    = "built in"
	defaultRefresh = time.Hour
	snapshotFile   = "set.snapshot"
	overlayFile    = "set.overlay"  // the changes since the snapshot
	previousFile   = "set.previous" // the snapshot before
	mergedFile     = "set.merged"   // the next snapshot, while it is made
	versionFile    = "version"
	listsFolder    = "lists"
)

// timing holds the delays a test shortens.
type timing struct {
	start      time.Duration // how long Start waits for lists to be fetched and read, in all
	last       time.Duration // how long it waits until the set of the last run, if there is one, is in force meanwhile
	fetch      time.Duration // of one fetch, from the dial to the last byte
	backoff    time.Duration // after the first failure; doubles with each further one
	poll       time.Duration // between two looks at the state of files
	again      time.Duration // after a file was written while it was read
	writeAgain time.Duration // after the set could not be written
}

// limits holds the bounds a test lowers; see the constants.
type limits struct{ amend, merge, run int }

// shared is the part of the state of Lists that its copies and its publisher use, too. Only the writer changes it.
type shared struct {
	cfg     Config
	log     *slog.Logger
	timing  timing
	limits  limits
	set     *blocklist.Set
	store   store.Store
	guards  *guardfile.Loader
	lists   []*list         // the allow list first
	removed []*list         // lists that are not configured any more, until a set without them is in force
	ctx     context.Context // of Start, then of Run
}

// Lists keeps the configured lists up to date, compiles them into a set and puts the set in force. Start, then Run, are called by one goroutine,
// the writer; all other methods are safe for concurrent use.
type Lists struct {
	*shared
	copies    *copies
	publisher *publisher

	fetch     fetch.Client
	watch     *filewatch.Watcher // of lists in files
	reload    chan struct{}
	retry     chan struct{}
	configure chan *configuration // from Reconfigure to Run
	status    atomic.Pointer[Status]

	// Only the writer uses these.
	unlock        func() // unlocks the data folder; nil if it is not locked
	folderState   folderState
	results       chan download
	lateDownloads []download // fetched during Start, and not yet applied
	memoryFreed   time.Time  // the last time at which the memory for reading was freed

	started  chan struct{} // closed when loadFirstSet returns; nil if Start did not call it
	lastUsed chan struct{} // closed by markLast
	markLast func()        // called when the set of the last run is in force; nil if Start was not called
	endStart func()        // makes loadFirstSet return soon
}

// New checks the configuration and returns Lists with an empty set. Start fills the set.
func New(cfg Config) (*Lists, error) {
	if cfg.Refresh <= 0 {
		cfg.Refresh = defaultRefresh
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.LowMemory == nil {
		cfg.LowMemory = func() (end func()) { return func() {} }
	}
	if cfg.Dir == "" {
		return nil, errors.New("lists: no data folder is configured")
	}
	if cfg.Guards == nil {
		guards, err := guardfile.New(guardfile.Config{}, cfg.Log)
		if err != nil {
			return nil, err
		}
		cfg.Guards = guards
	}
	lists, err := configured(cfg)
	if err != nil {
		return nil, err
	}
	set, err := emptySet()
	if err != nil {
		return nil, err
	}
	sh := &shared{
		cfg: cfg, log: cfg.Log, set: set, lists: lists, guards: cfg.Guards, ctx: context.Background(),
		timing: timing{
			start: 5 * time.Second, last: time.Second, fetch: 10 * time.Minute, backoff: 10 * time.Second,
			poll: filewatch.Interval, again: 500 * time.Millisecond, writeAgain: time.Minute,
		},
		limits: limits{amend: maxAmend, merge: mergeAbove, run: runLimit},
		store:  store.Store{Dir: filepath.Join(cfg.Dir, listsFolder)},
	}
	l := &Lists{
		shared: sh, copies: &copies{shared: sh}, fetch: fetch.NewClient(fetch.Config{Dial: cfg.Dial, Proxy: cfg.Proxy}),
		reload: make(chan struct{}, 1), retry: make(chan struct{}, 1), configure: make(chan *configuration, 1),
		results: make(chan download, maxFetches),
	}
	l.publisher = newPublisher(sh, l.copies, l)
	l.watch = filewatch.New(l.watched()...) // before any file is read
	l.warnOfQuorums()
	l.updateStatus()
	return l, nil
}

// Set returns the set that the lists are published to: one set for the life of Lists, empty before Start.
func (l *Lists) Set() *blocklist.Set { return l.set }

// Judge returns what the guards find about a listing, and whether a person released it. Loading the guards, if they are not in memory, takes
// some tens of milliseconds. The listing is borrowed for the call.
func (l *Lists) Judge(listing blocklist.Listing) (f guard.Finding, released bool, err error) {
	guards, err := l.guards.Acquire()
	if err != nil {
		return f, false, err
	}
	f = guards.Check(listing)
	return f, f.Outcome == guard.Hold && guards.IsReleased(listing), nil
}

// Guards returns the loader of the guards that lists pass.
func (l *Lists) Guards() *guardfile.Loader { return l.guards }

// Reload makes Run check every list soon, at the request of a person. It does not wait.
func (l *Lists) Reload() { notify(l.reload) }

// Retry is Reload at the request of a program: it omits lists whose server asked for a pause by Retry-After.
func (l *Lists) Retry() { notify(l.retry) }

func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is pending already
	}
}

// Start reads files and last good copies, fetches URLs without a copy, and puts the resulting set in force. If that takes longer than a second,
// Start puts the set of the last run in force and returns; if there is none, Start returns after five seconds at most. The work continues, and Run waits for
// its end. A list that cannot be fetched or read never makes Start fail: Status reports the list. An error means that the data folder cannot be used.
// After Start, Run must be called: it unlocks the folder at its end.
func (l *Lists) Start(ctx context.Context) error {
	if l.cfg.ReadOnly {
		l.ctx = ctx
		return l.startReadOnly()
	}
	if err := l.takeFolder(); err != nil {
		return fmt.Errorf("data folder %s cannot be used: %w", l.cfg.Dir, err)
	}
	l.ctx, l.endStart = context.WithCancel(ctx)
	l.started, l.lastUsed = make(chan struct{}), make(chan struct{})
	l.markLast = sync.OnceFunc(func() { close(l.lastUsed) })
	go func() {
		defer close(l.started)
		l.loadFirstSet(l.ctx)
	}()
	select {
	case <-l.started:
		return nil
	case <-ctx.Done():
		return nil
	case <-time.After(l.timing.last):
	}
	select {
	case <-l.started:
	case <-ctx.Done():
	case <-l.lastUsed:
	case <-time.After(l.timing.start - l.timing.last):
		l.log.Warn("the lists are still being read; until they are, nothing is blocked")
	}
	return nil
}

// startReadOnly is Start without writing: a list without a current copy is parsed into memory.
func (l *Lists) startReadOnly() error {
	for _, li := range l.lists {
		l.copies.loadCopy(li)
		if li.kind == KindURL {
			if current, err := l.copies.isCurrent(li); li.copy != nil && (err != nil || !current) {
				l.copies.reparseBody(li)
			}
			continue
		}
		l.copies.finishAttempt(li, time.Now(), l.copies.recoverOnError(li, l.copies.readFileInMemory(li)))
	}
	l.guards.Release()
	err := l.publisher.withGoodCopies(l.publisher.compileInMemory)
	l.publisher.err = err
	l.updateStatus()
	return err
}

// loadFirstSet reads the lists and publishes the first set.
func (l *Lists) loadFirstSet(ctx context.Context) {
	end := time.Now().Add(l.timing.start * 4 / 5) // lists that were fetched and read by then are in force when Start returns
	read := make(chan struct{})
	go func() {
		defer close(read)
		files := l.loadCopies()
		l.updateStatus() // the copies are those of the last run's set
		l.refreshFiles(files)
		l.fetchMissing(ctx, end)
	}()
	select {
	case <-read:
	case <-time.After(l.timing.last):
		l.publisher.useLastSet()
		<-read
	}
	if ctx.Err() != nil {
		return
	}
	l.guards.Release()
	if err := l.publisher.publish(); errors.Is(err, errRestored) {
		l.publisher.retryAt = time.Time{}
	} else if err != nil && ctx.Err() == nil {
		l.log.Error("the set could not be written; the last one stays in force", "err", err)
		l.publisher.fallBack()
	}
	l.updateStatus()
}

// loadCopies loads the copies of all lists, parses the content of URLs again whose copies are not current, and returns the lists that are in files.
func (l *Lists) loadCopies() (files []*list) {
	for _, li := range l.lists {
		l.copies.loadCopy(li)
		if li.kind != KindURL {
			files = append(files, li)
		} else if current, err := l.copies.isCurrent(li); li.copy != nil && (err != nil || !current) && !l.copies.reparseBody(li) {
			li.next = time.Time{} // the old copy serves until it was fetched again
		}
	}
	return files
}

// refreshFiles updates the copies of files, as many at a time as there are cores.
func (l *Lists) refreshFiles(files []*list) {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	errs := make([]error, len(files))
	now := time.Now()
	for i, li := range files {
		g.Go(func() error {
			errs[i] = l.copies.readFile(li, now)
			return nil
		})
	}
	_ = g.Wait() // each list has an error of its own
	if l.ctx.Err() != nil {
		return // the program ends: no list failed
	}
	for i, li := range files {
		l.copies.finishAttempt(li, now, l.copies.recoverOnError(li, errs[i]))
	}
}

// fetchMissing fetches the URLs that have no copy, several at a time, until end.
func (l *Lists) fetchMissing(ctx context.Context, end time.Time) {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	slots := make(chan struct{}, maxFetches)
	n := 0
	for _, li := range l.lists {
		if li.kind == KindURL && li.copy == nil {
			n++
			go l.startDownload(ctx, slots, li, nil)()
		}
	}
	for range n { // every download ends with a result
		r := <-l.results
		switch {
		case ctx.Err() == nil:
			l.handleDownload(r)
		case r.err != nil:
			r.list.fetching = false // the time of the start ended the fetch, not the server: Run fetches the list again
		default:
			l.lateDownloads = append(l.lateDownloads, r) // parsing it would delay Start further
		}
	}
}
