package fetch

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

	"rempart/blocklist/feed/bounded"
)

// A TAXII 2.1 collection (section 5.4) is fetched page by page; later, only objects that were added since. A server does not report
// removed objects, so the whole collection is fetched again once a day.

const (
	taxiiMedia   = "application/taxii+json;version=2.1"
	maxPages     = 10_000
	maxNext      = 4 << 10 // bytes of "next"
	wholeAgain   = 24 * time.Hour
	maxAddedLast = 64 // bytes of a time stamp
)

// objectsOf returns the URL of the objects of a collection. u is the URL of the collection or of its objects.
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

// fetchCollection fetches the objects of the collection at u.
func (f Client) fetchCollection(ctx context.Context, u *url.URL, known Validators, before, path string) (Result, error) {
	at, err := objectsOf(u)
	if err != nil {
		return Result{}, err
	}
	now := time.Now()
	s, err := newSpool(path, f.maxBody)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	c := collectionReader{f: f, at: at, spool: s, bytesLeft: f.maxBody, seen: map[uint64]bool{}}
	recent := now.Unix()-known.Complete < int64(wholeAgain/time.Second) && known.Complete <= now.Unix()
	if before != "" && known.AddedLast != "" && recent {
		if err := s.addBody(before); err == nil {
			c.since, c.addedLast = known.AddedLast, known.AddedLast
		} else if err := s.reset(); err != nil {
			return Result{}, err
		}
	}
	held := s.count()
	if err := c.readPages(ctx); err != nil {
		return Result{}, fmt.Errorf("collection: %w", err)
	}
	got := Result{At: time.Now(), Validators: Validators{AddedLast: c.addedLast, Complete: known.Complete}}
	if c.since == "" {
		got.Validators.Complete = now.Unix()
	} else if s.count() == held {
		got.Unchanged = true
		return got, nil
	}
	if got.Sum, err = f.writeBody(path, s.write); err != nil {
		return Result{}, fmt.Errorf("collection: %w", err)
	}
	return got, nil
}

// collectionReader fetches the pages of one collection.
type collectionReader struct {
	f         Client
	at        *url.URL
	spool     *spool
	since     string // added_after, "" for all
	addedLast string // when the newest object so far was added, as the server writes it; "" if it did not say
	bytesLeft int64  // bytes of pages
	seen      map[uint64]bool
}

// readPages fetches pages until the server has no more.
func (p *collectionReader) readPages(ctx context.Context) error {
	since, next := p.since, ""
	for range maxPages {
		e, added, err := p.readPage(ctx, since, next)
		if err != nil {
			return err
		}
		advanced := later(added, p.addedLast)
		if advanced {
			p.addedLast = added
		}
		switch {
		case !e.more:
			return nil
		case e.next != "":
			next = e.next
		case advanced: // section 3.4: the next page may be requested by time too
			since, next = added, ""
		default:
			return errors.New("the server reports more objects, but no next page")
		}
		if at := xxhash.Sum64String(since + "\x00" + next); p.seen[at] {
			return errors.New("the server's pages go in a circle")
		} else {
			p.seen[at] = true
		}
	}
	return fmt.Errorf("more than %d pages: %w", maxPages, bounded.ErrTooLarge)
}

// later reports whether a is a later time stamp than b. A text that is not a time stamp is earlier than any.
func later(a, b string) bool {
	at, err := time.Parse(time.RFC3339Nano, a)
	if err != nil || len(a) > maxAddedLast {
		return false
	}
	than, err := time.Parse(time.RFC3339Nano, b)
	return err != nil || at.After(than)
}

// readPage fetches one page into the spool.
func (p *collectionReader) readPage(ctx context.Context, since, next string) (e envelope, added string, err error) {
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
	e, err = readEnvelope(bounded.NewMeter(resp.Body, &p.bytesLeft), p.spool.add)
	return e, resp.Header.Get("X-TAXII-Date-Added-Last"), err
}

// taxiiHint says what an answer that is no success means of a collection (section 5.4).
func taxiiHint(err error) error {
	var status *StatusError
	if !errors.As(err, &status) {
		return err
	}
	hint := ""
	switch status.Code {
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

// envelope holds the properties of a page, without its objects (section 3.7).
type envelope struct {
	more bool
	next string
}

// readEnvelope calls take with each object of a page, borrowed for the call.
func readEnvelope(r io.Reader, take func(object json.RawMessage) error) (e envelope, err error) {
	v := bounded.NewValues(r, maxObject)
	if ok, err := v.Open('{'); err != nil || !ok {
		return e, notAnEnvelope(err)
	}
	for v.More() {
		key, err := v.Key()
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
		return e, fmt.Errorf("the name of the next page: %w", bounded.ErrTooLarge)
	}
	if _, err := v.Token(); err != nil {
		return e, notAnEnvelope(err)
	}
	return e, nil
}

func notAnEnvelope(err error) error {
	switch err {
	case nil:
		err = errors.New("it is another document")
	case io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("not a TAXII envelope: %w", err)
}

func readObjects(v *bounded.Values, take func(json.RawMessage) error) error {
	if ok, err := v.Open('['); err != nil || !ok {
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

// addBody adds the objects of a body written earlier.
func (s *spool) addBody(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = readEnvelope(file, s.add)
	return err
}
