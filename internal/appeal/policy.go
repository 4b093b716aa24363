package appeal

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/tomlfile"
	"rempart/internal/units"
)

// Policy describes how an organisation handles appeals. It is immutable.
type Policy struct {
	Service   string            // name of the service that handles appeals
	Contact   string            // address, telephone number or e-mail of the service
	Answer    time.Duration     // time from filing until an answer is due
	Retention time.Duration     // time from filing until the appeal is deleted
	Silence   map[string]string // meaning of the absence of an answer, by language tag; empty: the text of the portal
	Routes    map[string]string // further routes, by language tag
	Second    []string          // patterns of the blocks for which a second person must confirm a decision about an appeal
	Suspend   []string          // patterns of the blocks that are suspended until the decision
}

const (
	defaultAnswer    = 60 * 24 * time.Hour
	defaultRetention = 400 * 24 * time.Hour
)

// The patterns of Policy.Second and Policy.Suspend. Any other pattern is the ID of a decision; if it ends with "*", it is all IDs with that beginning.
const (
	ordered = "ordered" // all external orders
	listed  = "lists"   // all blocks that only lists make
)

// ParsePolicy reads the file of a policy (TOML). The error names the key.
func ParsePolicy(data []byte) (*Policy, error) {
	var file struct {
		Service, Contact, Answer, Retention string
		Silence, Routes                     map[string]string
		Second, Suspend                     []string
	}
	file.Second = []string{ordered}
	if err := tomlfile.Decode(data, &file); err != nil {
		return nil, err
	}
	p := &Policy{Service: file.Service, Contact: file.Contact, Silence: file.Silence, Routes: file.Routes, Second: file.Second, Suspend: file.Suspend}
	var err error
	if p.Answer, err = duration("answer", file.Answer, defaultAnswer); err != nil {
		return nil, err
	}
	if p.Retention, err = duration("retention", file.Retention, defaultRetention); err != nil {
		return nil, err
	}
	return p, p.check()
}

func duration(key, text string, otherwise time.Duration) (time.Duration, error) {
	if text == "" {
		return otherwise, nil
	}
	d, err := units.ParseDuration(text)
	if err != nil || d < 24*time.Hour || d > 3650*24*time.Hour {
		return 0, fmt.Errorf(`%s: a duration from 1d to 3650d, like "60d"`, key)
	}
	return d, nil
}

func (p *Policy) check() error {
	switch {
	case p.Service == "" || len(p.Service) > 200:
		return errors.New("service: the name of the service that handles appeals, 1 to 200 bytes")
	case p.Contact == "" || len(p.Contact) > 300:
		return errors.New("contact: how people reach the service, 1 to 300 bytes")
	case p.Retention <= p.Answer:
		return errors.New("retention: longer than answer, because an appeal is deleted when its retention ends")
	}
	for key, texts := range map[string]map[string]string{"silence": p.Silence, "routes": p.Routes} {
		for tag, text := range texts {
			if len(tag) > 35 || text == "" || len(text) > 2000 {
				return fmt.Errorf("%s.%.35s: 1 to 2000 bytes", key, tag)
			}
		}
	}
	return nil
}

// needsSecond reports whether a second person must confirm a decision about blocks: one block for which the policy demands it is enough.
func (p *Policy) needsSecond(blocks []Block) bool {
	return slices.ContainsFunc(blocks, func(b Block) bool { return b.matches(p.Second) })
}

// suspends reports whether the policy suspends all of these blocks until the decision. If it does not suspend one of them, none is suspended. It is false
// without blocks.
func (p *Policy) suspends(blocks []Block) bool {
	return len(blocks) > 0 && !slices.ContainsFunc(blocks, func(b Block) bool { return !b.matches(p.Suspend) })
}

// matches reports whether one of the patterns describes the block.
func (b *Block) matches(patterns []string) bool {
	for _, pattern := range patterns {
		switch {
		case pattern == ordered && b.Mark == journal.MarkText(blocklist.Censored),
			pattern == listed && !b.Operator,
			blocklist.MatchesDecision(pattern, b.Decision):
			return true
		}
	}
	return false
}
