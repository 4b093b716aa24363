package feed

import (
	"context"
	"errors"
	"os"
	"time"

	"rempart/blocklist/feed/fetch"
)

// maxFetches is the number of lists that are fetched at the same time.
const maxFetches = 4

// download is what came of fetching a list.
type download struct {
	list *list
	got  fetch.Result
	err  error
}

// downloading marks li as being fetched and returns what is to run beside the writer: it sends
// one result, whatever happens, unless done is closed, and reads nothing of li that changes.
func (l *Lists) downloading(ctx context.Context, slots chan struct{}, li *list, done <-chan struct{}) func() {
	li.busy = true
	known, before, kept := fetch.Validators{}, "", uint64(0)
	if current, err := l.current(li); err == nil && current {
		known, before, kept = li.copy.Validators, l.store.path(li.key, bodySuffix), li.copy.Body
	}
	from := li.feed.from()
	return func() {
		if before != "" {
			if body, err := hashFile(before); err != nil || body != kept { // a damaged body is fetched whole, and no difference is applied to it
				known, before = fetch.Validators{}, ""
			}
		}
		r := l.download(ctx, slots, from, known, before, l.store.path(li.key, newBodySuffix))
		r.list = li
		select {
		case l.results <- r:
		case <-done:
		}
	}
}

func (l *Lists) download(ctx context.Context, slots chan struct{}, from fetch.Origin, known fetch.Validators, before, path string) (r download) {
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		r.err = ctx.Err()
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, l.timing.fetch)
	defer cancel()
	r.got, r.err = l.fetch.Fetch(ctx, from, known, before, path)
	return r
}

// ingest takes in what came of fetching a list.
func (l *Lists) ingest(r download) {
	if r.list.gone {
		l.discard(r)
		return
	}
	r.list.busy = false
	err := r.err
	if err == nil {
		err = l.takeBody(r.list, r.got)
	}
	l.settle(r.list, time.Now(), err)
}

func (l *Lists) takeBody(li *list, got fetch.Result) error {
	path := l.store.path(li.key, newBodySuffix)
	if got.MissedEvents > 0 {
		l.log.Warn("some of a list could not be had; what was known of that stays", "list", li.name, "events", got.MissedEvents)
	}
	if got.Unchanged && li.copy == nil {
		return errors.New("its copy was lost while the server was asked whether it changed")
	}
	current, err := l.current(li)
	if err != nil {
		return err
	}
	if got.Unchanged || current && got.Sum == li.copy.Body {
		li.copy.Fetched = got.At
		li.copy.Validators = got.Validators
		if !got.Unchanged {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
		return l.store.saveRecord(li.key, li.copy)
	}
	t, err := l.takeIn(li, path, got.At)
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	t.record.Validators = got.Validators
	if err := os.Rename(path, l.store.path(li.key, bodySuffix)); err != nil { // keep syncs the folder
		return err
	}
	return l.keep(li, t)
}
