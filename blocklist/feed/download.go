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

// download is the result of fetching a list.
type download struct {
	list *list
	got  fetch.Result
	err  error
}

// startDownload marks li as being fetched and returns the function to run concurrently with the writer. The function sends one result in any
// case, unless done is closed, and reads no field of li that changes.
func (l *Lists) startDownload(ctx context.Context, slots chan struct{}, li *list, done <-chan struct{}) func() {
	li.fetching = true
	known, before, kept := fetch.Validators{}, "", uint64(0)
	if current, err := l.copies.isCurrent(li); err == nil && current {
		known, before, kept = li.copy.Validators, l.store.Body(li.key), li.copy.Body
	}
	from := li.feed.origin()
	return func() {
		if before != "" {
			if body, err := hashFile(before); err != nil || body != kept { // a damaged body is fetched whole, and no difference is applied to it
				known, before = fetch.Validators{}, ""
			}
		}
		r := l.download(ctx, slots, from, known, before, l.store.NewBody(li.key))
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

// handleDownload applies the result of fetching a list.
func (l *Lists) handleDownload(r download) {
	if r.list.removed {
		l.discard(r)
		return
	}
	r.list.fetching = false
	err := r.err
	if err == nil {
		err = l.acceptBody(r.list, r.got)
	}
	l.copies.finishAttempt(r.list, time.Now(), err)
}

// acceptBody makes a fetched body the content of li if it is accepted.
func (l *Lists) acceptBody(li *list, got fetch.Result) error {
	path := l.store.NewBody(li.key)
	if got.MissedEvents > 0 {
		l.log.Warn("some events of a list could not be fetched; their listings stay as they were", "list", li.name, "events", got.MissedEvents)
	}
	if got.Unchanged && li.copy == nil {
		return errors.New("its copy was lost while the server was asked whether it changed")
	}
	current, err := l.copies.isCurrent(li)
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
		return l.store.SaveRecord(li.key, li.copy)
	}
	t, err := l.copies.readList(li, path, got.At)
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	t.record.Validators = got.Validators
	if err := l.store.UseNewBody(li.key); err != nil { // saveCopy syncs the folder
		return err
	}
	return l.copies.saveCopy(li, t)
}
