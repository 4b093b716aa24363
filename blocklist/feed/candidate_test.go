package feed

import (
	"testing"

	"rempart/blocklist/feed/store"
)

// TestCandidate checks which contents are accepted and which are held, without files.
func TestCandidate(t *testing.T) {
	record := func(entries int) *store.Record { return &store.Record{Entries: entries} }
	for name, tt := range map[string]struct {
		candidate candidate
		held      bool
	}{
		"first content":         {candidate{kind: KindURL, after: record(5000)}, false},
		"small change":          {candidate{kind: KindURL, before: record(5000), after: record(5100)}, false},
		"loses most entries":    {candidate{kind: KindURL, before: record(5000), after: record(50)}, true},
		"released":              {candidate{kind: KindURL, before: record(5000), after: record(50), isReleased: func() bool { return true }}, false},
		"other settings":        {candidate{kind: KindURL, before: record(5000), after: &store.Record{Entries: 50, Form: 1}}, false},
		"emptied by publisher":  {candidate{kind: KindURL, before: record(5000), after: record(0)}, true},
		"file emptied by owner": {candidate{kind: KindFile, before: record(5000), after: record(0)}, false},
		"allow list":            {candidate{kind: KindAllow, before: record(5000), after: record(1)}, false},
	} {
		if tt.candidate.isReleased == nil {
			tt.candidate.isReleased = func() bool { return false }
		}
		if err := tt.candidate.check(); (err != nil) != tt.held {
			t.Errorf("%s: error %v, held must be %v", name, err, tt.held)
		}
	}
}
