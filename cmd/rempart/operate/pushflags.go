package operate

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/units"
)

// pushHead is the result of reading the flags of push.
type pushHead struct {
	set      *journal.ChangeSet
	defaults map[string]json.RawMessage // by field, for lines that do not set the field
}

// read checks the flags.
func (f *pushFlags) read(now time.Time) (*pushHead, error) {
	set := &journal.ChangeSet{ID: f.id, Time: now.Unix(), Comment: f.comment}
	if set.ID == "" {
		set.ID = newID(now)
	}
	if f.share != "" {
		share, err := parseShare(f.share)
		if err != nil {
			return nil, err
		}
		d, err := parseSpan(f.shareTime)
		if err != nil {
			return nil, fmt.Errorf("--stage-for %w", err)
		}
		set.Stage = &journal.Stage{Share: share, Seconds: int64(d / time.Second)}
	}
	first, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	if _, err := journal.ParseChangeSet(first); err != nil {
		return nil, err
	}
	if err := f.times(now); err != nil {
		return nil, err
	}
	f.change.Do = journal.Act(f.do)
	defaults, err := defaultsOf(&f.change)
	if err != nil {
		return nil, err
	}
	return &pushHead{set, defaults}, nil
}

// times reads --start, --expiry and --for.
func (f *pushFlags) times(now time.Time) error {
	if f.expiry != "" && f.valid != "" {
		return errors.New("--expiry and --for: use one of them")
	}
	for _, t := range []struct {
		flag, text string
		to         **time.Time
	}{{"--start", f.start, &f.change.Start}, {"--expiry", f.expiry, &f.change.Expiry}} {
		if t.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, t.text)
		if err != nil {
			at, err = time.Parse(time.DateOnly, t.text)
		}
		if err != nil {
			return fmt.Errorf("%s %s: a date like 2026-12-31 (from its first second on, UTC) or 2026-12-31T23:59:59Z", t.flag, t.text)
		}
		*t.to = &at
	}
	if f.valid != "" {
		d, err := parseSpan(f.valid)
		if err != nil {
			return fmt.Errorf("--for %w", err)
		}
		from := now
		if f.change.Start != nil {
			from = *f.change.Start
		}
		end := from.Add(d).UTC().Truncate(time.Second)
		f.change.Expiry = &end
	}
	return nil
}

// defaultsOf returns the fields for lines that do not set them. It checks them, because a mistake would affect every line.
func defaultsOf(c *changeset.Change) (map[string]json.RawMessage, error) {
	sample := journal.Change{
		Do: c.Do, Name: "name.example", Scope: c.Scope, Category: c.Category, Reason: c.Reason, Authority: c.Authority, Decision: c.Decision, Mark: c.Mark,
		Countries: c.Countries, Operators: c.Operators,
	}
	if c.Do == "" {
		sample.Do = journal.Block
	}
	if c.Start != nil {
		sample.Start = c.Start.Unix()
	}
	if c.Expiry != nil {
		sample.Expiry = c.Expiry.Unix()
	}
	_, err := sample.Listing()
	if field := (*journal.FieldError)(nil); errors.As(err, &field) {
		flag := map[string]string{"countries": "country", "operators": "operator"}[field.Name]
		if flag == "" {
			flag = field.Name
		}
		return nil, fmt.Errorf("--%s: %s", flag, field.Why)
	} else if err != nil {
		return nil, err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	err = json.Unmarshal(data, &fields)
	delete(fields, "name")
	return fields, err
}

// parseShare parses a share of the servers: "5%" or "0.05".
func parseShare(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if percent {
		share /= 100
	}
	if err != nil || !(share > 0 && share < 1) {
		return 0, fmt.Errorf("--stage %s: a share of the servers between none and all, like 5%%", text)
	}
	return share, nil
}

// parseSpan parses the duration of a flag, which is at least one second.
func parseSpan(text string) (time.Duration, error) {
	const most = 100 * 365 * 24 * time.Hour
	d, err := units.ParseDuration(text)
	if err != nil || d < time.Second || d > most {
		return 0, fmt.Errorf("%s is not a duration: write it like 30m, 72h or 30d", text)
	}
	return d, nil
}

// waitDefault sets the default of --wait: a person at a terminal wants to see the effect, a script does not wait.
func (s *receiptFlags) waitDefault(cmd *cobra.Command) {
	s.mustWait = cmd.Flags().Changed("wait")
	if f, ok := cmd.OutOrStdout().(*os.File); !s.mustWait && ok && term.IsTerminal(int(f.Fd())) {
		s.wait = 5 * time.Second
	}
}
