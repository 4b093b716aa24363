package statistics

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// recording is a Recorder with a clock and counters of the test.
type recording struct {
	*Recorder
	now    time.Time
	counts Counts
	sizes  Sizes
}

func newRecording(t *testing.T, dir string, now time.Time) *recording {
	t.Helper()
	r := &recording{now: now, counts: Counts{ByCategory: map[string]uint64{}, ByList: map[string]uint64{}, ByPolicy: map[string]uint64{}}}
	var err error
	r.Recorder, err = New(Config{
		Dir: dir, Least: 100, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return r.now },
		Counts: func() Counts {
			var c Counts
			c.add(&Counts{}, &r.counts) // a copy
			return c
		},
		Sizes:   func() Sizes { return r.sizes },
		Appeals: func() *Appeals { return &Appeals{Filed: 250, Upheld: 30, Rejected: 120, MedianHours: 40} },
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *recording) turn(t *testing.T) {
	t.Helper()
	if err := r.Record(); err != nil {
		t.Fatal(err)
	}
}

func text(rows []Row) string {
	var b strings.Builder
	for _, r := range rows {
		value := "-"
		if r.Value != nil {
			value = fmt.Sprint(*r.Value)
		}
		fmt.Fprintf(&b, "%s %s %s=%s\n", r.Date, r.Measure, r.Key, value)
	}
	return b.String()
}

func TestDayIsPublishedWhenItIsOver(t *testing.T) {
	dir := t.TempDir()
	noon := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	r := newRecording(t, dir, noon)
	r.sizes = Sizes{Names: 1000, Lists: map[string]int{"a": 700}}
	r.turn(t)
	r.counts.Queries, r.counts.ByCategory["phishing"], r.counts.ByCategory["scam"], r.counts.ByList["a"], r.counts.ByPolicy["page"] = 12345, 250, 99, 349, 349
	r.turn(t)
	if all, err := Read(dir, 10); err != nil || len(all) != 0 {
		t.Errorf("before the end of the day: %v, %v", all, err)
	}

	r = newRecording(t, dir, noon.Add(time.Hour)) // a restart: the counters begin again
	r.sizes = Sizes{Names: 1010, Lists: map[string]int{"a": 690, "b": 20}}
	r.counts.Queries, r.counts.ByCategory["phishing"] = 100, 60
	r.turn(t)
	r.now = noon.Add(13 * time.Hour)
	r.turn(t)
	all, err := Read(dir, 10)
	if err != nil {
		t.Fatal(err)
	}
	want := `2026-11-29 queries =12400
2026-11-29 blocked_by_category phishing=300
2026-11-29 blocked_by_category scam=-
2026-11-29 blocked_by_list a=300
2026-11-29 blocked_by_policy page=300
2026-11-29 set_names =1010
2026-11-29 list_entries a=690
2026-11-29 list_growth a=-10
2026-11-29 list_entries b=20
2026-11-29 appeals_filed =200
2026-11-29 appeals_upheld =-
2026-11-29 appeals_rejected =100
2026-11-29 appeals_median_hours =40
`
	if got := text(all); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestOldDaysAreRemovedAndDamageIsSkipped(t *testing.T) {
	dir := t.TempDir()
	r := newRecording(t, dir, time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	for range keepDays + 10 {
		r.turn(t)
		r.now = r.now.Add(24 * time.Hour)
	}
	dates, err := days(dir)
	if err != nil || len(dates) != keepDays {
		t.Errorf("%d days are kept, %v", len(dates), err)
	}
	for name, content := range map[string]string{dates[len(dates)-1] + ".json": "[{", todayFile: "nonsense", "2026-99-99.json": "[]", "other.txt": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := Read(dir, 2); err != nil || len(all) == 0 || all[0].Date != dates[len(dates)-2] {
		t.Errorf("with damaged files: %v, %v", text(all), err)
	}
	newRecording(t, dir, r.now).turn(t)
}

// TestSuppressedNumbersCannotBeComputed plays an attacker who knows that one list contains every blocked name, so that the number of the list is the sum of the numbers
// of the categories: many values remain possible for a suppressed number.
func TestSuppressedNumbersCannotBeComputed(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const least = 100
	for range 20_000 {
		c := Counts{ByCategory: map[string]uint64{}, ByList: map[string]uint64{}}
		for i := range 1 + random.IntN(maxCells) {
			n := random.Uint64N(3 * least)
			c.ByCategory[fmt.Sprint(i)] = n
			c.ByList["all"] += n
		}
		var sum int64 = -1
		published, suppressed, known := int64(0), 0, 0
		for _, r := range rows("", &c, &Sizes{}, &Sizes{}, nil, least) {
			switch {
			case r.Measure == "blocked_by_list" && r.Value != nil:
				sum = *r.Value
			case r.Measure == "blocked_by_category" && r.Value != nil:
				published += *r.Value
				known++
			case r.Measure == "blocked_by_category":
				suppressed++
			}
		}
		if suppressed != 1 || sum < 0 {
			continue // with two suppressed numbers, the attacker knows less
		}
		lowest := max(0, sum-published-int64(known)*(least-1))
		highest := min(least-1, sum+least-1-published)
		if possible := highest - lowest + 1; possible < least-maxCells {
			t.Fatalf("only %d values are possible for a suppressed number, of %v", possible, c.ByCategory)
		}
	}
}

func TestFormats(t *testing.T) {
	value := int64(300)
	all := []Row{{"2026-11-29", "queries", "", &value}, {"2026-11-29", "blocked_by_list", "=cmd(\"x\"),y", nil}}
	var b bytes.Buffer
	if err := WriteCSV(&b, all); err != nil {
		t.Fatal(err)
	}
	if want := "date,measure,key,value\r\n2026-11-29,queries,,300\r\n2026-11-29,blocked_by_list,\"'=cmd(\"\"x\"\"),y\",\r\n"; b.String() != want {
		t.Errorf("CSV %q, want %q", b.String(), want)
	}
	b.Reset()
	if err := WriteJSON(&b, all); err != nil {
		t.Fatal(err)
	}
	var into struct {
		Licence string
		Rows    []Row
	}
	if err := json.Unmarshal(b.Bytes(), &into); err != nil || len(into.Rows) != 2 || !strings.Contains(into.Licence, "Licence Ouverte") {
		t.Errorf("JSON %s: %v", b.Bytes(), err)
	}
	var schema struct{ Fields []struct{ Name string } }
	if err := json.Unmarshal([]byte(Schema), &schema); err != nil || len(schema.Fields) != 4 {
		t.Errorf("schema: %v, %v", schema, err)
	}
}

// TestWrongClock checks that a clock that was once far in the future does not stop the statistics.
func TestWrongClock(t *testing.T) {
	dir := t.TempDir()
	noon := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	r := newRecording(t, dir, noon.AddDate(12, 0, 0))
	r.turn(t)
	for range 3 {
		r.now = noon
		r.turn(t)
		noon = noon.AddDate(0, 0, 1)
	}
	if dates, err := days(dir); err != nil || len(dates) != 2 || dates[0] != "2026-11-29" {
		t.Errorf("days %v, %v", dates, err)
	}
}

// TestPublishedIsReadOncePerDay checks that readers share the bytes until a day is added.
func TestPublishedIsReadOncePerDay(t *testing.T) {
	dir := t.TempDir()
	p := NewPublished(dir)
	if data, _, err := p.CSV(); err != nil || string(data) != "date,measure,key,value\r\n" {
		t.Errorf("before the first day: %q, %v", data, err)
	}
	r := newRecording(t, dir, time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC))
	for range 3 {
		r.turn(t)
		r.now = r.now.AddDate(0, 0, 1)
	}
	first, _, err := p.CSV()
	if err != nil || strings.Count(string(first), "queries") != 2 {
		t.Fatalf("%q, %v", first, err)
	}
	if again, _, _ := p.CSV(); &again[0] != &first[0] {
		t.Error("the bytes were made again")
	}
	r.turn(t)
	if next, _, err := p.JSON(); err != nil || strings.Count(string(next), `"queries"`) != 3 {
		t.Errorf("after another day: %q, %v", next, err)
	}
}

func TestFullDiskIsReported(t *testing.T) {
	r := newRecording(t, t.TempDir(), time.Now())
	r.config.Dir = filepath.Join(r.config.Dir, "file", "gone")
	if err := os.WriteFile(filepath.Dir(r.config.Dir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Record(); err == nil {
		t.Error("writing into a folder that cannot be made is no error")
	}
}
