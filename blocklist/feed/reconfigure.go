package feed

import (
	"errors"
	"os"
	"slices"
	"time"

	"rempart/blocklist/feed/fetch"
	"rempart/blocklist/feed/guardfile"
	"rempart/blocklist/feed/store"
)

// Reconfigure replaces the feeds, and the configuration of the guards, of Lists that are running. It checks them as New does; on an error nothing
// changes. Run applies them soon, without a restart: it reads new feeds, withdraws the listings of removed feeds, and parses feeds whose settings
// changed again from their stored content. A feed is the same feed if it has the same URL or path. If only the name of a feed stays the same, its
// last good copy stays in force until content from the new URL or path is accepted. Reconfigure does not wait, and is safe for concurrent use.
func (l *Lists) Reconfigure(feeds []Feed, guards guardfile.Config) error {
	cfg := Config{Lists: l.cfg.Lists, Feeds: feeds, Allow: l.cfg.Allow}
	if _, err := configured(cfg); err != nil {
		return err
	}
	c := &configuration{feeds, guards}
	for {
		select {
		case l.configure <- c:
			return nil
		default:
		}
		select {
		case <-l.configure: // a newer one replaces it
		default:
		}
	}
}

// configuration holds the settings that Reconfigure replaces.
type configuration struct {
	feeds  []Feed
	guards guardfile.Config
}

// applyConfiguration applies a configuration of Reconfigure.
func (l *Lists) applyConfiguration(c *configuration) {
	lists, err := configured(Config{Lists: l.cfg.Lists, Feeds: c.feeds, Allow: l.cfg.Allow})
	if err != nil { // Reconfigure checked it
		l.log.Error("the feeds are not replaced", "err", err)
		return
	}
	before := l.lists
	l.lists, l.cfg.Feeds = nil, c.feeds
	_ = l.guards.Replace(c.guards) // it logs the error; the guards from before stay in use
	for _, li := range lists {
		known := slices.Concat(before, l.removed)
		i := slices.IndexFunc(known, func(o *list) bool { return o.key == li.key })
		if i < 0 {
			l.loadStored(li)
			if li.copy == nil {
				l.inheritCopy(li, before)
			}
			l.lists = append(l.lists, li)
			continue
		}
		same := known[i]
		same.removed = false
		if same.name != li.name || same.feed.Weight != li.feed.Weight || same.feed.Quorum != li.feed.Quorum {
			l.publisher.whole = true
		}
		same.name, same.feed = li.name, li.feed
		l.lists = append(l.lists, same)
	}
	for _, li := range before {
		if !slices.Contains(l.lists, li) {
			li.removed = true
			l.removed = append(l.removed, li)
			l.log.Info("list is not configured any more", "list", li.name)
		}
	}
	l.removed = slices.DeleteFunc(l.removed, func(li *list) bool { return !li.removed })
	l.watch.Set(l.watched()...)
	l.warnOfQuorums()
	l.rejudgeAll() // under the new settings and guards
}

// loadStored loads the files of a list that was configured earlier. Its compiled copy is removed together with the last set that uses it; the content
// of a URL is kept for longer.
func (l *Lists) loadStored(li *list) {
	l.copies.loadCopy(li)
	if li.copy == nil {
		return
	}
	if l.store.HasCopy(li.key, li.copy) {
		return
	}
	if li.kind != KindURL || !l.copies.reparseBody(li) {
		li.copy, li.result, li.next = nil, Waiting, time.Time{}
	}
}

// inheritCopy gives li, which has no copy, the copy of the list of the same name that the configuration had before: until content from the new
// URL or path is accepted, that copy stays in force. Its record has neither the form nor the settings of li, so that li is read in any case and
// its first content is not compared with what another origin listed.
func (l *Lists) inheritCopy(li *list, before []*list) {
	i := slices.IndexFunc(before, func(o *list) bool {
		return o.name == li.name && o.kind != KindAllow && o.copy != nil && o.postponed == nil && !o.removed
	})
	if i < 0 {
		return
	}
	from := before[i]
	rec := *from.copy
	rec.Settings, rec.Form, rec.File, rec.Validators = 0, 0, store.FileState{}, fetch.Validators{}
	if err := l.store.LinkCopy(from.key, from.copy, li.key, &rec); err != nil {
		l.log.Warn("the last good copy of a list is not kept for its new origin", "list", li.name, "err", err)
		return
	}
	li.copy, li.result = &rec, OK
	l.log.Info("the URL or path of a list changed; its last good copy stays in force until content from the new one is accepted", "list", li.name)
}

// discard drops the result of fetching a list that is no longer configured.
func (l *Lists) discard(r download) {
	r.list.fetching = false
	if r.err != nil || r.got.Unchanged {
		return
	}
	if err := os.Remove(l.store.NewBody(r.list.key)); err != nil && !errors.Is(err, os.ErrNotExist) {
		l.log.Warn("the fetched content of a list that is not configured any more could not be removed; the next start removes it", "list", r.list.name, "err", err)
	}
}
