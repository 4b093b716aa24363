package scenario

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Bounds of a file.
const (
	maxLine  = 64 << 10 // bytes
	maxLines = 20_000
)

// Parse reads a scenario. file is the name of the file in errors, which begin with "file:line".
func Parse(file string, r io.Reader) (*Scenario, error) {
	p := &parser{file: file, lines: bufio.NewScanner(r)}
	p.lines.Buffer(nil, maxLine)
	s, err := p.scenario()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.position(), err)
	}
	return s, nil
}

// parser reads a file line by line.
type parser struct {
	file  string
	lines *bufio.Scanner
	line  int
}

func (p *parser) position() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

// next returns the next line that is neither empty nor a comment, without surrounding space.
func (p *parser) next() (string, error) {
	for p.lines.Scan() {
		p.line++
		if p.line > maxLines {
			return "", fmt.Errorf("more than %d lines", maxLines)
		}
		if line := strings.TrimSpace(p.lines.Text()); line != "" && line[0] != ';' {
			return line, nil
		}
	}
	if err := p.lines.Err(); err != nil {
		p.line++
		return "", err
	}
	return "", io.ErrUnexpectedEOF
}

// keywords returns the words of the next line, without its comment.
func (p *parser) keywords() ([]string, error) {
	line, err := p.next()
	if err != nil {
		return nil, err
	}
	line, _, _ = strings.Cut(line, ";")
	return strings.Fields(line), nil
}

func (p *parser) scenario() (*Scenario, error) {
	s := &Scenario{}
	var err error
	if s.Settings, err = p.settings("CONFIG_END"); err != nil {
		return nil, err
	}
	begin, err := p.next()
	if err != nil {
		return nil, fmt.Errorf("waiting for SCENARIO_BEGIN: %w", err)
	}
	title, ok := strings.CutPrefix(begin, "SCENARIO_BEGIN")
	if s.Title = strings.TrimSpace(title); !ok || s.Title == "" {
		return nil, fmt.Errorf("SCENARIO_BEGIN and a title must follow CONFIG_END, not %.40q", begin)
	}
	for {
		words, err := p.keywords()
		if err != nil {
			return nil, fmt.Errorf("waiting for SCENARIO_END: %w", err)
		}
		switch words[0] {
		case "RANGE_BEGIN":
			err = p.stepRange(s, words[1:])
		case "STEP":
			err = p.step(s, words[1:])
		case "SCENARIO_END":
			if len(s.steps) == 0 {
				return nil, fmt.Errorf("the scenario has no step")
			}
			return s, nil
		default:
			err = fmt.Errorf("unknown keyword %.40q: RANGE_BEGIN, STEP or SCENARIO_END is possible here", words[0])
		}
		if err != nil {
			return nil, err
		}
	}
}

// settings reads lines of the format "key: value" until a line that is equal to end.
func (p *parser) settings(end string) (all []Setting, err error) {
	for {
		line, err := p.next()
		if err != nil {
			return nil, fmt.Errorf("waiting for %s: %w", end, err)
		}
		line, _, _ = strings.Cut(line, ";")
		if line = strings.TrimSpace(line); line == end {
			return all, nil
		}
		key, value, ok := strings.Cut(line, ": ")
		if value = strings.TrimSpace(value); !ok || value == "" || strings.ContainsAny(key, " \t") {
			return nil, fmt.Errorf("a setting is \"key: value\", not %.40q", line)
		}
		all = append(all, Setting{Key: key, Value: value, Position: p.position()})
	}
}

func (p *parser) stepRange(s *Scenario, words []string) error {
	if len(words) != 2 {
		return fmt.Errorf("RANGE_BEGIN needs its first and its last step")
	}
	var r stepRange
	var err error
	if r.first, err = number(words[0]); err != nil {
		return err
	}
	if r.last, err = number(words[1]); err != nil {
		return err
	}
	if r.first > r.last {
		return fmt.Errorf("the range begins at step %d, after its end", r.first)
	}
	for {
		words, err := p.keywords()
		if err != nil {
			return fmt.Errorf("waiting for RANGE_END: %w", err)
		}
		switch words[0] {
		case "ADDRESS":
			r.address, err = address(words)
		case "ENTRY_BEGIN":
			var e *entry
			if e, err = p.entry(); err == nil {
				r.entries = append(r.entries, e)
			}
		case "RANGE_END":
			s.ranges = append(s.ranges, r)
			return nil
		default:
			err = fmt.Errorf("unknown keyword %.40q: ADDRESS, ENTRY_BEGIN or RANGE_END is possible here", words[0])
		}
		if err != nil {
			return err
		}
	}
}

func (p *parser) step(s *Scenario, words []string) (err error) {
	if len(words) < 2 {
		return fmt.Errorf("STEP needs a number and a kind")
	}
	st := step{position: p.position(), kind: stepKind(words[1])}
	if st.number, err = number(words[0]); err != nil {
		return err
	}
	if n := len(s.steps); n > 0 && s.steps[n-1].number > st.number {
		return fmt.Errorf("step %d follows step %d", st.number, s.steps[n-1].number)
	}
	arguments := words[2:]
	switch st.kind {
	case stepQuery, stepCheckAnswer, stepCheckNoAnswer, stepCheckOutQuery, stepReply, stepTimeout, stepNothing, stepTraffic:
	case stepOutQueries:
		if len(arguments) != 1 {
			return fmt.Errorf("OUT_QUERIES needs a number")
		}
		if st.count, err = number(arguments[0]); err != nil {
			return err
		}
		arguments = nil
	case stepTimePasses:
		if len(arguments) != 2 || arguments[0] != "ELAPSE" {
			return fmt.Errorf("TIME_PASSES needs ELAPSE and a number of seconds; EVAL is not supported")
		}
		if st.elapse, err = seconds(arguments[1]); err != nil {
			return err
		}
		arguments = nil
	case stepChange:
		if st.settings, err = p.settings("CHANGE_END"); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown kind of step %.40q", words[1])
	}
	if len(arguments) > 0 {
		return fmt.Errorf("unknown argument %.40q of %s", arguments[0], st.kind)
	}
	if st.kind.hasEntry() {
		if err := p.stepEntry(&st); err != nil {
			return err
		}
	}
	s.steps = append(s.steps, st)
	return nil
}

// stepEntry reads the entry of a step, and the address that may precede it.
func (p *parser) stepEntry(st *step) error {
	words, err := p.keywords()
	if err == nil && words[0] == "ADDRESS" && st.kind != stepCheckAnswer {
		if st.address, err = address(words); err != nil {
			return err
		}
		words, err = p.keywords()
	}
	switch {
	case err != nil:
		return fmt.Errorf("waiting for ENTRY_BEGIN: %w", err)
	case words[0] != "ENTRY_BEGIN":
		return fmt.Errorf("ENTRY_BEGIN must follow %s, not %.40q", st.kind, words[0])
	}
	if st.entry, err = p.entry(); err != nil {
		return err
	}
	checks := len(st.entry.match) > 0
	if (st.kind == stepCheckAnswer || st.kind == stepCheckOutQuery) && !checks {
		return fmt.Errorf("%s checks nothing without MATCH", st.kind)
	}
	return nil
}

func number(word string) (int, error) {
	n, err := strconv.ParseUint(word, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%.40q is not a number", word)
	}
	return int(n), nil
}

func seconds(word string) (time.Duration, error) {
	n, err := number(word)
	return time.Duration(n) * time.Second, err
}

func address(words []string) (netip.Addr, error) {
	if len(words) != 2 {
		return netip.Addr{}, fmt.Errorf("ADDRESS needs one address")
	}
	return netip.ParseAddr(words[1])
}
