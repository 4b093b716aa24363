package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// A MISP feed is a folder: manifest.json tells of each event when it was last changed, and an event
// stands in the file of its UUID. Only events that are new or changed are fetched.
// https://www.misp-project.org/datamodels/

const (
	manifestFile    = "manifest.json"
	maxManifest     = 64 << 20 // octets
	maxEntry        = 1 << 20  // octets of an event's entry in the manifest
	maxEvents       = 100_000
	maxEvent        = 16 << 20 // octets, long texts clipped
	maxEventFetches = 4        // at a time, of one list
	missable        = 20       // one event in so many may fail without the fetch failing: it stays as it was, if it was held
)

// events fetches the feed whose manifest or folder u is.
func (f fetcher) events(ctx context.Context, u *url.URL, known validators, before, path string) (fetched, error) {
	held, err := openEvents(before)
	if err != nil {
		return fetched{}, err
	}
	defer held.close()
	conditions := known.conditions()
	if len(held.events) == 0 {
		conditions = http.Header{}
	}
	resp, err := f.open(ctx, inFolder(u, manifestFile), conditions)
	if err != nil {
		return fetched{}, fmt.Errorf("manifest: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified {
		return fetched{same: true, at: time.Now(), known: known}, nil
	}
	listed, err := readManifest(&bounded{r: resp.Body, left: min(f.limit, maxManifest)})
	if err != nil {
		return fetched{}, fmt.Errorf("manifest: %w", err)
	}
	if held.are(listed) {
		return fetched{same: true, at: time.Now(), known: validatorsOf(resp)}, nil
	}
	m := merge{f: f, u: u, listed: listed, held: held}
	sum, err := f.writeBody(path, func(w io.Writer) error { return m.run(ctx, w) })
	if err != nil {
		return fetched{}, fmt.Errorf("events: %w", err)
	}
	got := fetched{body: sum, at: time.Now(), known: validatorsOf(resp), missed: m.missed}
	if m.missed > 0 {
		got.known = validators{} // or they would not be asked for again until the manifest changes
	}
	return got, nil
}

// inFolder is the URL of a file beside the manifest that u names, or whose folder it does. What lets
// the manifest be had, user and query, goes for all files.
func inFolder(u *url.URL, file string) string {
	at := *u
	at.RawPath = ""
	folder := u.Path
	if path.Base(folder) == manifestFile && !strings.HasSuffix(folder, "/") {
		folder = path.Dir(folder)
	}
	at.Path = strings.TrimSuffix(folder, "/") + "/" + file
	return at.String()
}

// readManifest reads when each event, by its UUID, was last changed: Unix seconds.
func readManifest(r io.Reader) (map[string]int64, error) {
	v := newValues(r, maxEntry)
	if ok, err := v.open('{'); err != nil || !ok {
		return nil, errors.Join(errors.New("it is not a MISP manifest"), err)
	}
	listed := map[string]int64{}
	for v.More() {
		uuid, err := v.key()
		if err != nil {
			return nil, err
		}
		if !isUUID(uuid) {
			return nil, fmt.Errorf("%.40q is not the UUID of an event", uuid)
		}
		var entry struct {
			Timestamp json.RawMessage `json:"timestamp"`
		}
		if err := v.Decode(&entry); err != nil {
			return nil, fmt.Errorf("event %s: %w", uuid, err)
		}
		changed, ok := number(bytes.Trim(entry.Timestamp, `"`))
		if !ok {
			return nil, fmt.Errorf("event %s has no timestamp", uuid)
		}
		if listed[strings.ToLower(uuid)] = changed; len(listed) > maxEvents {
			return nil, fmt.Errorf("more than %d events: %w", maxEvents, ErrTooLarge)
		}
	}
	_, err := v.Token()
	return listed, err
}

// isUUID knows the form of RFC 9562 section 4.
func isUUID(s string) bool {
	if len(s) != len("00000000-0000-0000-0000-000000000000") {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20 // lower case
		switch hyphen := i == 8 || i == 13 || i == 18 || i == 23; {
		case hyphen && s[i] != '-', !hyphen && (c < 'a' || c > 'f') && (s[i] < '0' || s[i] > '9'):
			return false
		}
	}
	return true
}

// merge makes a body of the events listed, in the order of their UUIDs, from those held and others to fetch.
type merge struct {
	f      fetcher
	u      *url.URL
	listed map[string]int64
	held   *heldEvents
	missed int
}

// event is one as fetched.
type event struct {
	text []byte // on one line, without its end
	err  error
}

func (m *merge) run(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	var fetches sync.WaitGroup
	defer fetches.Wait()
	defer cancel() // before Wait
	all := slices.Sorted(maps.Keys(m.listed))
	due := slices.DeleteFunc(slices.Clone(all), func(uuid string) bool { return m.held.has(uuid, m.listed[uuid]) })

	// A window over what is due: fetched side by side, written in order.
	var window [maxEventFetches]chan event
	asked, written := 0, 0
	for _, uuid := range all {
		if m.held.has(uuid, m.listed[uuid]) {
			if err := m.held.write(w, uuid); err != nil {
				return err
			}
			continue
		}
		for ; asked < len(due) && asked < written+len(window); asked++ {
			result, next := make(chan event, 1), due[asked]
			window[asked%len(window)] = result
			fetches.Go(func() { result <- m.fetch(ctx, next) })
		}
		got := <-window[written%len(window)]
		written++
		if err := m.take(ctx, w, uuid, got); err != nil {
			return err
		}
	}
	return nil
}

// take writes an event that was fetched; of one that could not be had, what is held.
func (m *merge) take(ctx context.Context, w io.Writer, uuid string, got event) error {
	if got.err == nil {
		return writeEvent(w, uuid, m.listed[uuid], got.text)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if m.missed++; m.missed*missable > len(m.listed) {
		return fmt.Errorf("%d of %d could not be had, as event %s: %w", m.missed, len(m.listed), uuid, got.err)
	}
	return m.held.write(w, uuid)
}

// fetch fetches one event.
func (m *merge) fetch(ctx context.Context, uuid string) event {
	ctx, cancel := context.WithTimeout(ctx, m.f.part)
	defer cancel()
	resp, err := m.f.open(ctx, inFolder(m.u, uuid+".json"), http.Header{})
	if err != nil {
		return event{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(&bounded{r: &clip{r: &bounded{r: resp.Body, left: m.f.limit}}, left: maxEvent})
	if err != nil {
		return event{err: err}
	}
	for i, c := range text {
		if c == '\n' || c == '\r' {
			text[i] = ' ' // between tokens; elsewhere it is no JSON
		}
	}
	if err := checkEvent(text, uuid); err != nil {
		return event{err: err}
	}
	return event{text: text}
}

// checkEvent checks that text is that event, and whole: a body with a broken one in it could not be
// parsed.
func checkEvent(text []byte, uuid string) error {
	type header struct {
		UUID string `json:"uuid"`
	}
	var is struct {
		Event *header `json:"Event"`
		header
	}
	if err := json.Unmarshal(text, &is); err != nil {
		return errors.New("it is not a MISP event")
	}
	if is.Event != nil {
		is.header = *is.Event
	}
	if !strings.EqualFold(is.UUID, uuid) {
		return errors.New("it is another event, or none")
	}
	return nil
}

// openEvents opens a body written before. Without one, or if it is not such a body, no event is held.
func openEvents(before string) (*heldEvents, error) {
	if before == "" {
		return &heldEvents{}, nil
	}
	file, err := os.Open(before)
	if errors.Is(err, os.ErrNotExist) {
		return &heldEvents{}, nil
	}
	if err != nil {
		return nil, err
	}
	h := &heldEvents{file: file}
	if err := h.index(); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}
