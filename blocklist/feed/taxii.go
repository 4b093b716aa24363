package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
)

// A TAXII 2.1 collection (section 5.4) is fetched page by page; later, only what was added since. What
// a server removes it does not tell, so that all is fetched again once a day.

const (
	taxiiMedia   = "application/taxii+json;version=2.1"
	maxPages     = 10_000
	maxNext      = 4 << 10 // octets of "next"
	wholeAgain   = 24 * time.Hour
	maxAddedLast = 64 // octets of a time stamp
)

// objectsOf is the URL of the objects of the collection that u names, or whose objects it does.
func objectsOf(u *url.URL) (*url.URL, error) {
	at := *u
	at.RawPath = ""
	at.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/objects")
	i := strings.LastIndex(at.Path, "/collections/")
	if i < 0 || at.Path[i+len("/collections/"):] == "" || strings.Contains(at.Path[i+len("/collections/"):], "/") {
		return nil, errors.New("a TAXII URL ends in /collections/{id}/ or /collections/{id}/objects/")
	}
	at.Path += "/objects/"
	return &at, nil
}

// collection fetches the objects of the collection u names.
func (f fetcher) collection(ctx context.Context, u *url.URL, known validators, before, path string) (fetched, error) {
	at, err := objectsOf(u)
	if err != nil {
		return fetched{}, err
	}
	now := time.Now()
	s, err := newSpool(path, f.limit)
	if err != nil {
		return fetched{}, err
	}
	defer s.close()
	c := paging{f: f, at: at, spool: s, left: f.limit, seen: map[uint64]bool{}}
	recent := now.Unix()-known.Complete < int64(wholeAgain/time.Second) && known.Complete <= now.Unix()
	if before != "" && known.AddedLast != "" && recent {
		if err := s.takeBody(before); err == nil {
			c.since, c.added = known.AddedLast, known.AddedLast
		} else if err := s.reset(); err != nil {
			return fetched{}, err
		}
	}
	held := s.count()
	if err := c.all(ctx); err != nil {
		return fetched{}, fmt.Errorf("collection: %w", err)
	}
	got := fetched{at: time.Now(), known: validators{AddedLast: c.added, Complete: known.Complete}}
	if c.since == "" {
		got.known.Complete = now.Unix()
	} else if s.count() == held {
		got.same = true
		return got, nil
	}
	if got.body, err = f.writeBody(path, s.write); err != nil {
		return fetched{}, fmt.Errorf("collection: %w", err)
	}
	return got, nil
}

// paging is the fetching of one collection.
type paging struct {
	f     fetcher
	at    *url.URL
	spool *spool
	since string // added_after, "" for all
	added string // when the newest object so far was added, as the server writes it; "" if it did not say
	left  int64  // octets of pages
	seen  map[uint64]bool
}

// all fetches pages until the server has no more.
func (p *paging) all(ctx context.Context) error {
	since, next := p.since, ""
	for range maxPages {
		e, added, err := p.page(ctx, since, next)
		if err != nil {
			return err
		}
		advanced := later(added, p.added)
		if advanced {
			p.added = added
		}
		switch {
		case !e.more:
			return nil
		case e.next != "":
			next = e.next
		case advanced: // section 3.4: time is a way to go on, too
			since, next = added, ""
		default:
			return errors.New("the server says there is more, and not how to have it")
		}
		if at := xxhash.Sum64String(since + "\x00" + next); p.seen[at] {
			return errors.New("the server's pages go in a circle")
		} else {
			p.seen[at] = true
		}
	}
	return fmt.Errorf("more than %d pages: %w", maxPages, ErrTooLarge)
}

// later compares time stamps; what is none is earlier than any.
func later(a, b string) bool {
	at, err := time.Parse(time.RFC3339Nano, a)
	if err != nil || len(a) > maxAddedLast {
		return false
	}
	than, err := time.Parse(time.RFC3339Nano, b)
	return err != nil || at.After(than)
}

// page fetches one page into the spool.
func (p *paging) page(ctx context.Context, since, next string) (e envelope, added string, err error) {
	at := *p.at
	query := at.Query()
	if since != "" {
		query.Set("added_after", since)
	}
	if next != "" {
		query.Set("next", next)
	}
	at.RawQuery = query.Encode()
	resp, err := p.f.open(ctx, at.String(), http.Header{"Accept": {taxiiMedia}})
	if err != nil {
		return envelope{}, "", taxiiHint(err)
	}
	defer resp.Body.Close()
	e, err = readEnvelope(&meter{r: resp.Body, left: &p.left}, p.spool.add)
	return e, resp.Header.Get("X-TAXII-Date-Added-Last"), err
}

// taxiiHint says what an answer that is no success means of a collection (section 5.4).
func taxiiHint(err error) error {
	var status *statusError
	if !errors.As(err, &status) {
		return err
	}
	hint := ""
	switch status.code {
	case http.StatusUnauthorized, http.StatusForbidden:
		hint = "; put the user and password it gave you in the URL (https://user:password@host/...)"
	case http.StatusNotFound:
		hint = "; it has no such collection, or not for this user"
	case http.StatusNotAcceptable, http.StatusUnsupportedMediaType:
		hint = "; it does not speak TAXII 2.1"
	case http.StatusRequestedRangeNotSatisfiable:
		hint = "; it speaks TAXII 2.0, or forgot the page it was asked for"
	}
	return fmt.Errorf("%w%s", err, hint)
}

// envelope is what a page says beside its objects (section 3.7).
type envelope struct {
	more bool
	next string
}

// readEnvelope gives each object of a page to take, which must not keep it.
func readEnvelope(r io.Reader, take func(object json.RawMessage) error) (e envelope, err error) {
	v := newValues(r, maxObject)
	if ok, err := v.open('{'); err != nil || !ok {
		return e, notAnEnvelope(err)
	}
	for v.More() {
		key, err := v.key()
		if err != nil {
			return e, notAnEnvelope(err)
		}
		switch key {
		case "objects":
			err = readObjects(v, take)
		case "more":
			err = v.Decode(&e.more)
		case "next":
			err = v.Decode(&e.next)
		default:
			err = v.Decode(new(json.RawMessage))
		}
		if err != nil {
			return e, notAnEnvelope(err)
		}
	}
	if len(e.next) > maxNext {
		return e, fmt.Errorf("the name of the next page: %w", ErrTooLarge)
	}
	if _, err := v.Token(); err != nil {
		return e, notAnEnvelope(err)
	}
	return e, nil
}

func notAnEnvelope(err error) error {
	if err == nil {
		err = errors.New("it is another document")
	}
	return fmt.Errorf("not a TAXII envelope: %w", inside(err))
}

func readObjects(v *values, take func(json.RawMessage) error) error {
	if ok, err := v.open('['); err != nil || !ok {
		return errors.Join(errors.New("its objects are no list"), err)
	}
	for v.More() {
		var object json.RawMessage
		if err := v.Decode(&object); err != nil {
			return err
		}
		if err := take(object); err != nil {
			return err
		}
	}
	_, err := v.Token()
	return err
}

// takeBody adds the objects of a body written before.
func (s *spool) takeBody(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = readEnvelope(file, s.add)
	return err
}
