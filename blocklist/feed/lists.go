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
	"rempart/internal/durable"
	"rempart/internal/filewatch"
	"rempart/internal/setfile"
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
	fetch      time.Duration // of one fetch, from the dial to the last octet
	backoff    time.Duration // after the first failure; doubles with each further one
	poll       time.Duration // between two looks at the state of files
	again      time.Duration // after a file was written while it was read
	writeAgain time.Duration // after the set could not be written
}

// limits holds the bounds a test lowers; see the constants.
type limits struct{ amend, merge, run int }

// Lists keeps the configured lists up to date and the set compiled from them in force. Start,
// then Run, are called by one goroutine, the writer; all other methods are safe from any.
type Lists struct {
	cfg       Config
	log       *slog.Logger
	timing    timing
	limits    limits
	fetch     fetch.Client
	set       *blocklist.Set
	reload    chan struct{}
	retry     chan struct{}
	configure chan *configuration // of Reconfigure, for Run
	status    atomic.Pointer[Status]

	guards *guardfile.Loader
	watch  *filewatch.Watcher // of lists in files

	// The writer's own.
	lists          []*list // the allow list first
	removed        []*list // not configured any more, until the set is made without them
	store          store.Store
	counter        *durable.Counter
	unlock         func()
	folderState    folderState
	results        chan download
	lateDownloads  []download    // fetched during Start, and not yet taken in
	setErr         error         // why the set in force is not of the newest content
	setAgain       time.Time     // when to try again
	content        uint64        // fingerprint of the copies of the published set
	file           *setfile.File // of the set in force
	postponedBytes atomic.Int64  // octets of listings that wait to be written as copies
	memoryFreed    time.Time     // the last time at which the memory for reading was freed
	damaged        bool          // the snapshot on disk is not to be built upon
	whole          bool          // the properties of a source changed: the set is compiled, not amended
	mergeJob       *mergeJob     // under way, nil for none

	started    chan struct{}   // closed when begin returns; nil if Start did not call begin
	lastUsed   chan struct{}   // closed by markLast
	markLast   func()          // called when the set of the last run is in force; nil if Start was not called
	endStart   func()          // makes begin return soon
	ctx        context.Context // of Start, then of Run
	background sync.WaitGroup  // work of the writer in other goroutines
	merged     chan *mergeJob
	verified   chan error
}

// New checks the configuration. The set that it creates is empty until Start.
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
	l := &Lists{
		cfg: cfg, log: cfg.Log, set: set, lists: lists,
		timing: timing{
			start: 5 * time.Second, last: time.Second, fetch: 10 * time.Minute, backoff: 10 * time.Second,
			poll: filewatch.Interval, again: 500 * time.Millisecond, writeAgain: time.Minute,
		},
		fetch: fetch.NewClient(fetch.Config{Dial: cfg.Dial, Proxy: cfg.Proxy}), ctx: context.Background(), limits: limits{amend: maxAmend, merge: mergeAbove, run: runLimit},
		store:  store.Store{Dir: filepath.Join(cfg.Dir, listsFolder)},
		reload: make(chan struct{}, 1), retry: make(chan struct{}, 1), configure: make(chan *configuration, 1),
		results: make(chan download, maxFetches),
		guards:  cfg.Guards, merged: make(chan *mergeJob, 1), verified: make(chan error, 1),
	}
	l.watch = filewatch.New(l.watched()...) // before any file is read
	l.warnOfQuorums()
	l.updateStatus()
	return l, nil
}

// emptySet is version 0: nothing is listed.
func emptySet() (*blocklist.Set, error) {
	view, err := viewInMemory(blocklist.Info{})
	if err != nil {
		return nil, err
	}
	return blocklist.NewSet(view), nil
}

// Set returns the set that the lists are published to: one set for the life of Lists, empty before Start.
func (l *Lists) Set() *blocklist.Set { return l.set }

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
// After Start, Run must be called: it gives the folder back.
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
		l.useLastSet()
		<-read
	}
	if ctx.Err() != nil {
		return
	}
	l.guards.Release()
	if err := l.publish(); errors.Is(err, errRestored) {
		l.setAgain = time.Time{}
	} else if err != nil && ctx.Err() == nil {
		l.log.Error("the set could not be written; the last one stays in force", "err", err)
		l.fallBack()
	}
	l.updateStatus()
}

// loadCopies loads the copies of all lists, parses the content of URLs again whose copies are not current, and returns the lists that are in files.
func (l *Lists) loadCopies() (files []*list) {
	for _, li := range l.lists {
		l.loadCopy(li)
		if li.kind != KindURL {
			files = append(files, li)
		} else if current, err := l.isCurrent(li); li.copy != nil && (err != nil || !current) && !l.reparseBody(li) {
			li.next = time.Time{} // the old copy serves until it was fetched again
		}
	}
	return files
}

// refreshFiles brings the copies of files up to date, as many at a time as there are cores.
func (l *Lists) refreshFiles(files []*list) {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	errs := make([]error, len(files))
	now := time.Now()
	for i, li := range files {
		g.Go(func() error {
			errs[i] = l.readFile(li, now)
			return nil
		})
	}
	_ = g.Wait() // each list has an error of its own
	if l.ctx.Err() != nil {
		return // the program ends: no list failed
	}
	for i, li := range files {
		l.finishAttempt(li, now, l.recoverOnError(li, errs[i]))
	}
}

// fetchMissing fetches the URLs that have no copy, side by side, until end.
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
			r.list.fetching = false // not its failure: Run gives it the time it needs
		default:
			l.lateDownloads = append(l.lateDownloads, r) // it came, but parsing it would delay Start further
		}
	}
}

// fallBack publishes the snapshot of an earlier run, or if there is none, a set that is compiled in memory: an outdated set is better than
// none.
func (l *Lists) fallBack() {
	if l.set.View().Version() > 0 {
		return
	}
	if l.useLastSet() {
		return
	}
	if err := l.withGoodCopies(l.compileInMemory); err != nil {
		l.log.Error("nothing is in force", "err", err)
	}
}

// useLastSet puts the snapshot of an earlier run in force, and reports whether there is one. It may run while lists are read.
func (l *Lists) useLastSet() bool {
	view, err := l.openSet()
	return err == nil && l.useLast(view)
}

// useLast puts the view of an earlier run's set in force until another was compiled, and reports whether it could.
func (l *Lists) useLast(view *blocklist.View) bool {
	l.damaged = true // nobody knows from which lists the snapshot was made: the next set is not built upon it
	if view.Version() == 0 || l.set.Replace(view) != nil {
		return false
	}
	status := l.Status() // of the lists it stays as it is: they may be read now
	status.Version, status.Names = view.Version(), view.Stats().Names
	l.status.Store(&status)
	if l.cfg.Changed != nil {
		l.cfg.Changed()
	}
	l.log.Info("the set of the last run is in force until the lists are read and the next set is compiled", "version", view.Version(), "names", view.Stats().Names)
	if l.markLast != nil {
		l.markLast()
	}
	return true
}
