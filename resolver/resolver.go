package resolver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rempart/blocklist"
	"rempart/internal/wire"
	"rempart/resolver/cache"
	"rempart/resolver/cookie"
	"rempart/resolver/upstream"
)

// Exchanger asks upstream resolvers; *upstream.Pool is one.
type Exchanger interface {
	Exchange(ctx context.Context, q upstream.Question) (upstream.Answer, error)
	// Sighted notes a query for one of the names with which upstreams are probed for loops. It returns the text of the answer to a TXT query for it, or "" if it
	// is not a probe of this process.
	Sighted(name []byte) (secret string)
}

// Zone is a zone with upstreams of its own, special-use or not.
type Zone struct {
	Name      []byte // canonical
	Upstreams Exchanger
}

// Style is the answer to a blocked query from a client that does not support structured errors.
type Style uint8

const (
	Page     Style = iota // the page's addresses
	NXDomain              // but NODATA for an exact entry or one that contains an allow
	NoData
	Refused
	Null // 0.0.0.0 and ::
)

// Config configures a Resolver. The zero value of a field is its default.
type Config struct {
	Set       *blocklist.Set
	Cache     *cache.Cache
	Upstreams Exchanger
	Forward   []Zone

	MaxQuestions int // questions on their way upstream at a time, over all zones; default upstream.MaxInFlight

	Enforced blocklist.Categories // zero enforces all
	Observe  bool                 // answer as if unfiltered, and count the queries that would have been blocked
	Clients  []netip.Prefix       // prefixes of clients that may ask; empty: every client
	Identity string               // of this process, for detecting loops of upstreams

	// Cookies returns the secrets of server cookies; Fast calls it once per batch. nil: answers have no cookies.
	Cookies func() *cookie.Secrets

	Canaries         Canary // names that do not exist here, so that programs do not bypass the filter
	DenyBelow        bool   // a cached NXDOMAIN also denies the names below (RFC 8020), which are then not asked upstream
	KeepSingleLabels bool   // names of one label are not forwarded, unless a zone of Forward or the root contains them

	RefuseRebinding bool     // public names may not have local addresses; names in zones of Forward may
	RebindingAllow  [][]byte // canonical names that may nevertheless have local addresses, with all names below them

	Probe  []byte // canonical name of a zone whose names have the page's addresses, never forwarded; empty: none
	Grants Grants // how people continue to blocked names; it needs Probe

	NAT64 []netip.Prefix // of the clients' network: IPv6 addresses in them are judged by the IPv4 addresses that they contain

	Style            Style
	PageIPv4         netip.Addr // not valid: A of a blocked name has no data
	PageIPv6         netip.Addr
	BlockTTL         time.Duration // of a blocked answer; default 30 s
	StructuredOption uint16        // EDNS option code by which clients ask for structured errors; 0 for none
	NameSources      bool          // name the lists that contain a blocked name, and since when, in extended errors
	Contact          string        // URI for appeals: in structured errors if it is a telephone number or a mail address, in RESINFO if it is a web page and InfoURL is empty
	InfoURL          string        // web page about this resolver, in RESINFO
	Organisation     string        // in structured errors
	Database         string        // ID of the filtering database in which structured errors name the decision behind a block; "" for none
	// OrderPages returns the addresses of the page that an authority prescribes for an external order. decision is the ID of the order, "" for none. If both
	// addresses are invalid, the answer has PageIPv4 or PageIPv6. If only one is valid, queries for addresses of the other family get no data. OrderPages must
	// not block or allocate. nil: no authority prescribes a page.
	OrderPages func(decision string) (ipv4, ipv6 netip.Addr)
}

const (
	defaultBlockTTL = 30 * time.Second
	patience        = 4 * time.Second         // time for an answer from upstream: a stub gives up after 5 s, and should get a reason before
	stalePatience   = 1800 * time.Millisecond // the same if a stale answer is available (RFC 8767 section 5)
	instanceName    = "instance.rempart"      // CHAOS TXT: Config.Identity
)

// Resolver answers queries. It is safe for concurrent use; each listening loop has its own Worker.
type Resolver struct {
	set        *blocklist.Set
	cache      *cache.Cache
	upstreams  Exchanger
	zones      []Zone // longest first
	clients    clients
	cookies    func() *cookie.Secrets // never nil; returns nil if answers have no cookies
	rebinding  rebinding
	embeddings embeddings
	reasons    atomic.Pointer[reasons]
	designated atomic.Pointer[designation]
	info       []byte // RESINFO data
	enforced   blocklist.Categories
	observe    bool
	identity   []byte // as TXT data
	instance   []byte // canonical instanceName
	blocked    blockedAnswer
	special    map[string]specialUse
	probe      probeZone
	grants     *grantKeeper // nil: nobody may continue
	keepSingle bool
	denyBelow  bool
	epoch      time.Time

	heard  atomic.Int64 // when an upstream last answered, as clock.nano
	outage atomic.Bool  // a question failed, and no upstream answered anything in the meantime

	flights flights
	sweeper sweeper
	waiters sync.Pool // of *waiter
	lists   sync.Pool // of *[]*wire.Query
	slow    *counts   // of Slow and Forward
	mu      sync.Mutex
	counts  []*counts          // of every worker, and slow
	senders []*upstream.Sender // of every worker
	hits    hitTotals
}

// New checks c and returns a resolver. Close it after the last query.
func New(c Config) (*Resolver, error) {
	if c.Set == nil || c.Cache == nil || c.Upstreams == nil {
		return nil, errors.New("a resolver needs a set, a cache and upstreams")
	}
	if len(c.Identity) > 255 {
		return nil, fmt.Errorf("an identity of %d bytes does not fit a TXT string", len(c.Identity))
	}
	if c.Enforced == 0 {
		c.Enforced = blocklist.AllCategories
	}
	blocked, err := newBlockedAnswer(c)
	if err != nil {
		return nil, err
	}
	r := &Resolver{
		set: c.Set, cache: c.Cache, upstreams: c.Upstreams, zones: slices.Clone(c.Forward),
		enforced: c.Enforced, observe: c.Observe, cookies: c.Cookies,
		identity: append([]byte{byte(len(c.Identity))}, c.Identity...),
		blocked:  blocked, special: specialUses(c.Canaries), keepSingle: c.KeepSingleLabels, denyBelow: c.DenyBelow, epoch: time.Now(), slow: &counts{},
	}
	r.info = resolverInfo(cmp.Or(c.InfoURL, c.Contact))
	if r.cookies == nil {
		r.cookies = func() *cookie.Secrets { return nil }
	}
	r.clients.notices = make(chan string, kinds)
	r.clients.table.Store(&clientTable{everyone: len(c.Clients) == 0, prefixes: c.Clients})
	r.probe = newProbeZone(c, r.special)
	if r.grants, err = newGrantKeeper(c); err != nil {
		return nil, err
	}
	if r.rebinding, err = newRebinding(c); err != nil {
		return nil, err
	}
	if r.embeddings, err = newEmbeddings(c.NAT64); err != nil {
		return nil, err
	}
	if r.instance, err = wire.AppendName(nil, instanceName); err != nil {
		return nil, err
	}
	slices.SortFunc(r.zones, func(a, b Zone) int { return wire.Labels(b.Name) - wire.Labels(a.Name) })
	r.flights.init(cmp.Or(max(0, c.MaxQuestions), upstream.MaxInFlight))
	r.waiters.New = func() any { return &waiter{} }
	r.lists.New = func() any { return new([]*wire.Query) }
	r.counts = []*counts{r.slow}
	return r, nil
}

// Close ends every question under way, and returns when all are answered. No query may be passed to a Worker any more.
func (r *Resolver) Close() {
	r.flights.cancel()
	r.mu.Lock()
	senders := r.senders
	r.mu.Unlock()
	for _, s := range senders {
		s.Close()
	}
	r.flights.running.Wait()
	r.sweeper.work.Wait()
}

// clock is one reading of the time, made once per batch.
type clock struct {
	unix int64 // seconds, compared with starts and expiries of entries
	mono int64 // seconds since the resolver was made, for TTLs: it never decreases
	nano int64 // the same in nanoseconds, for latencies
}

func (r *Resolver) now() clock {
	t := time.Now()
	d := t.Sub(r.epoch)
	return clock{t.Unix(), int64(d / time.Second), int64(d)}
}

// zone returns the configured zone that contains name, or nil.
func (r *Resolver) zone(name []byte) *Zone {
	for i := range r.zones {
		if wire.InZone(name, r.zones[i].Name) {
			return &r.zones[i]
		}
	}
	return nil
}

// exchanger returns the upstreams of a question. The DS records of a zone are its parent's (RFC 4035 section 3.1.4.1): the upstreams of a zone of
// Forward may not have them.
func (r *Resolver) exchanger(name []byte, typ uint16) Exchanger {
	if typ == wire.TypeDS && len(name) > 1 {
		name = name[1+name[0]:]
	}
	if z := r.zone(name); z != nil {
		return z.Upstreams
	}
	return r.upstreams
}

// Worker is the part of a resolver that one listening loop uses: it has its own counters, so that cores do not share cache lines. Its methods may be called
// concurrently, as streams do.
type Worker struct {
	*Resolver
	counts *counts

	// Of Forward.
	ctx      context.Context
	out      []outbox
	answered []*wire.Query // queries that Forward answered itself
}

// NewWorker returns a worker. Make one per loop: workers are never freed.
func (r *Resolver) NewWorker() *Worker {
	w := &Worker{Resolver: r, counts: &counts{}, out: r.outboxes()}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts = append(r.counts, w.counts)
	for _, o := range w.out {
		r.senders = append(r.senders, o.sender)
	}
	return w
}
