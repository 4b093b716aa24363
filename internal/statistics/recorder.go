package statistics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"rempart/internal/durable"
)

// Config configures a Recorder. All fields are required except Appeals.
type Config struct {
	Dir     string // of the files; created if missing
	Least   uint64 // counts below it are suppressed, and others rounded down to its multiples; from leastCount to mostCount
	Counts  func() Counts
	Sizes   func() Sizes
	Appeals func() *Appeals // nil: none are accepted here
	Log     *slog.Logger
	Now     func() time.Time
}

// Recorder adds up what happens on a day, and writes the public numbers of a day when it is over. Its methods are safe for concurrent use.
type Recorder struct {
	config Config

	mu    sync.Mutex
	today day
	last  Counts // counters at the last call of Record
}

// day is the state of the present day, which survives a restart. Its file holds counts only.
type day struct {
	Date   string `json:"date"`
	Counts Counts `json:"counts"`
	Sizes  Sizes  `json:"sizes"` // when the day began
}

// Folder is the name of the folder of the statistics in the data folder.
const Folder = "statistics"

const (
	every     = 5 * time.Minute
	todayFile = "today.json"
	keepDays  = 400
	maxFile   = 4 << 20
)

// New returns a Recorder, which continues the day of an earlier process.
func New(c Config) (*Recorder, error) {
	if c.Least < leastCount || c.Least > mostCount {
		return nil, fmt.Errorf("the least count is %d, not from %d to %d", c.Least, leastCount, mostCount)
	}
	r := &Recorder{config: c}
	data, err := os.ReadFile(filepath.Join(c.Dir, todayFile))
	if err == nil {
		err = json.Unmarshal(data, &r.today)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) { // Run logs an error if the folder cannot be used
		c.Log.Warn("reading the statistics of today failed; the counts of today start again at 0", "file", todayFile, "error", err)
		r.today = day{}
	}
	return r, nil
}

// Run calls Record every few minutes until ctx ends, and then once more. It logs an error of Record, but only once if the next calls fail too.
func (r *Recorder) Run(ctx context.Context) error {
	t := time.NewTicker(every)
	defer t.Stop()
	failed := false
	turn := func() {
		err := r.Record()
		if err != nil && !failed {
			r.config.Log.Error("writing the statistics failed; Rempart tries again every few minutes", "folder", r.config.Dir, "error", err)
		}
		failed = err != nil
	}
	for {
		turn()
		select {
		case <-t.C:
		case <-ctx.Done():
			turn()
			return nil
		}
	}
}

// Record adds the growth of the counters since the last call to the counts of today, and stores them. If the stored day is over, Record first writes the public
// numbers of that day. Growth between the last call before midnight (UTC) and the first one after it is added to the new day.
func (r *Recorder) Record() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, sizes, date := r.config.Counts(), r.config.Sizes(), r.config.Now().UTC().Format(time.DateOnly)
	if r.today.Date == "" {
		r.today = day{Date: date, Sizes: sizes}
	}
	if r.today.Date != date {
		if r.today.Date < date { // a stored day in the future is dropped without publication: the clock was wrong
			if err := r.publish(&sizes); err != nil {
				return err
			}
		}
		r.today = day{Date: date, Sizes: sizes}
		r.forget()
	}
	r.today.Counts.add(&r.last, &now)
	r.last = now
	data, err := json.Marshal(r.today)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.config.Dir, 0o750); err != nil {
		return err
	}
	return durable.WriteBytes(filepath.Join(r.config.Dir, todayFile), data)
}

// publish writes the public numbers of the day that is over.
func (r *Recorder) publish(sizes *Sizes) error {
	var a *Appeals
	if r.config.Appeals != nil {
		a = r.config.Appeals()
	}
	data, err := json.Marshal(rows(r.today.Date, &r.today.Counts, sizes, &r.today.Sizes, a, r.config.Least))
	if err != nil {
		return err
	}
	return durable.WriteBytes(fileOf(r.config.Dir, r.today.Date), data)
}

// forget removes the files of old days.
func (r *Recorder) forget() {
	dates, err := days(r.config.Dir)
	if err != nil {
		return
	}
	for _, date := range dates[:max(0, len(dates)-keepDays)] {
		_ = os.Remove(fileOf(r.config.Dir, date)) // tried again on the next day
	}
}

// fileOf returns the path of the file of a day.
func fileOf(dir, date string) string { return filepath.Join(dir, date+".json") }

// days returns the dates of the files in a folder, in order.
func days(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var dates []string
	for _, e := range entries {
		date, isJSON := strings.CutSuffix(e.Name(), ".json")
		if _, err := time.Parse(time.DateOnly, date); isJSON && err == nil {
			dates = append(dates, date)
		}
	}
	slices.Sort(dates)
	return dates, nil
}

// Read returns the public numbers of the newest days in a folder, the oldest first. A file that cannot be read is left out.
func Read(dir string, most int) ([]Row, error) {
	dates, err := days(dir)
	if err != nil {
		return nil, err
	}
	all := []Row{}
	for _, date := range dates[max(0, len(dates)-most):] {
		info, err := os.Stat(fileOf(dir, date))
		if err != nil || info.Size() > maxFile {
			continue
		}
		data, err := os.ReadFile(fileOf(dir, date))
		if err != nil {
			continue
		}
		var rows []Row
		if json.Unmarshal(data, &rows) == nil {
			all = append(all, rows...)
		}
	}
	return all, nil
}
