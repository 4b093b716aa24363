package fetch

import (
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
	"strconv"
	"strings"
	"sync"
	"time"

	"rempart/blocklist/feed/bounded"
)

// A MISP feed is a folder: manifest.json holds the time of the last change of each event, and each event is in the file named by its
// UUID. Only new or changed events are fetched.
// https://www.misp-project.org/datamodels/

const (
	manifestFile    = "manifest.json"
	maxManifest     = 64 << 20 // bytes
	maxEntry        = 1 << 20  // bytes of an event's entry in the manifest
	maxEvents       = 100_000
	maxEvent        = 16 << 20 // bytes, long texts clipped
	maxEventFetches = 4        // at a time, of one list
	missable        = 20       // one event in so many may fail without the fetch failing: its stored state, if any, stays
)

// fetchEvents fetches the feed whose manifest or folder is at u.
func (f Client) fetchEvents(ctx context.Context, u *url.URL, known Validators, before, path string) (Result, error) {
	held, err := openEvents(before)
	if err != nil {
		return Result{}, err
	}
	defer held.close()
	conditions := known.conditions()
	if len(held.events) == 0 {
		conditions = http.Header{}
	}
	resp, err := f.open(ctx, inFolder(u, manifestFile), conditions)
	if err != nil {
		return Result{}, fmt.Errorf("manifest: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified {
		return Result{Unchanged: true, At: time.Now(), Validators: known}, nil
	}
	listed, err := readManifest(bounded.NewReader(resp.Body, min(f.maxBody, maxManifest)))
	if err != nil {
		return Result{}, fmt.Errorf("manifest: %w", err)
	}
	if held.equal(listed) {
		return Result{Unchanged: true, At: time.Now(), Validators: validatorsOf(resp)}, nil
	}
	m := eventMerge{f: f, u: u, listed: listed, stored: held}
	sum, err := f.writeBody(path, func(w io.Writer) error { return m.write(ctx, w) })
	if err != nil {
		return Result{}, fmt.Errorf("events: %w", err)
	}
	got := Result{Sum: sum, At: time.Now(), Validators: validatorsOf(resp), MissedEvents: m.missed}
	if m.missed > 0 {
		got.Validators = Validators{} // otherwise the missed events would not be requested again until the manifest changes
	}
	return got, nil
}

// inFolder returns the URL of a file in the folder that u names, or whose manifest u names. User and query of u apply to all files.
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

// readManifest returns the time of the last change of each event, in Unix seconds, by UUID.
func readManifest(r io.Reader) (map[string]int64, error) {
	v := bounded.NewValues(r, maxEntry)
	if ok, err := v.Open('{'); err != nil || !ok {
		return nil, errors.Join(errors.New("it is not a MISP manifest"), err)
	}
	listed := map[string]int64{}
	for v.More() {
		uuid, err := v.Key()
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
		changed, ok := unixSeconds(strings.Trim(string(entry.Timestamp), `"`))
		if !ok {
			return nil, fmt.Errorf("event %s has no timestamp", uuid)
		}
		if listed[strings.ToLower(uuid)] = changed; len(listed) > maxEvents {
			return nil, fmt.Errorf("more than %d events: %w", maxEvents, bounded.ErrTooLarge)
		}
	}
	_, err := v.Token()
	return listed, err
}

// unixSeconds reads a decimal number of 13 digits at most.
func unixSeconds(digits string) (int64, bool) {
	n, err := strconv.ParseUint(digits, 10, 63)
	return int64(n), err == nil && len(digits) <= 13
}

// isUUID reports whether s has the format of RFC 9562 section 4.
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

// eventMerge writes a body of the listed events, in the order of their UUIDs: stored events that are current, and others that it fetches.
type eventMerge struct {
	f      Client
	u      *url.URL
	listed map[string]int64
	stored *storedEvents
	missed int
}

// event is a fetched event.
type event struct {
	text []byte // on one line, without its end
	err  error
}

func (m *eventMerge) write(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	var fetches sync.WaitGroup
	defer fetches.Wait()
	defer cancel() // before Wait
	all := slices.Sorted(maps.Keys(m.listed))
	due := slices.DeleteFunc(slices.Clone(all), func(uuid string) bool { return m.stored.contains(uuid, m.listed[uuid]) })

	// A window over the events to fetch: they are fetched concurrently and written in order.
	var window [maxEventFetches]chan event
	asked, written := 0, 0
	for _, uuid := range all {
		if m.stored.contains(uuid, m.listed[uuid]) {
			if err := m.stored.write(w, uuid); err != nil {
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
		if err := m.writeFetched(ctx, w, uuid, got); err != nil {
			return err
		}
	}
	return nil
}

// writeFetched writes a fetched event, or the stored one if fetching failed.
func (m *eventMerge) writeFetched(ctx context.Context, w io.Writer, uuid string, got event) error {
	if got.err == nil {
		return writeEvent(w, uuid, m.listed[uuid], got.text)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if m.missed++; m.missed*missable > len(m.listed) {
		return fmt.Errorf("%d of %d could not be fetched, such as event %s: %w", m.missed, len(m.listed), uuid, got.err)
	}
	return m.stored.write(w, uuid)
}

// fetch fetches one event.
func (m *eventMerge) fetch(ctx context.Context, uuid string) event {
	ctx, cancel := context.WithTimeout(ctx, m.f.partTimeout)
	defer cancel()
	resp, err := m.f.open(ctx, inFolder(m.u, uuid+".json"), http.Header{})
	if err != nil {
		return event{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(bounded.NewReader(bounded.ClipJSON(bounded.NewReader(resp.Body, m.f.maxBody)), maxEvent))
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

// checkEvent checks that text is a complete event with that UUID: a body with a broken event could not be parsed.
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

// openEvents opens a body written earlier. If there is none, or if it has another format, no event is stored.
func openEvents(before string) (*storedEvents, error) {
	if before == "" {
		return &storedEvents{}, nil
	}
	file, err := os.Open(before)
	if errors.Is(err, os.ErrNotExist) {
		return &storedEvents{}, nil
	}
	if err != nil {
		return nil, err
	}
	h := &storedEvents{file: file}
	if err := h.index(); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}
