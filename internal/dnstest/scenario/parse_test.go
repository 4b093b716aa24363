package scenario

import (
	"strings"
	"testing"
	"time"
)

// whole is a scenario that uses every part of the format.
const whole = `; a comment
block: evil.example exact ; another
page: 192.0.2.66
CONFIG_END

SCENARIO_BEGIN Everything that the format has

RANGE_BEGIN 0 10
	ADDRESS 192.0.2.53
	ENTRY_BEGIN
	MATCH opcode qname qtype UDP
	ADJUST copy_id sleep=2
	REPLY QR RD RA NOERROR ede=22:why
	SECTION QUESTION
	www.example.com. IN A
	SECTION ANSWER
	www.example.com. 300 IN TXT "a; b" ; this is a comment
	SECTION AUTHORITY
	example.com. 300 IN TYPE65280 \# 1 00
	SECTION ADDITIONAL
	example.com. 300 IN A 192.0.2.1
	EXTRA_PACKET
	ADJUST copy_query flip_case
	REPLY SERVFAIL NOEDNS
	ENTRY_END
	ENTRY_BEGIN
	HEX_ANSWER_BEGIN
	00 01 ; the ID
	8180
	HEX_ANSWER_END
	ENTRY_END
RANGE_END

STEP 1 QUERY
ADDRESS 192.0.2.9
ENTRY_BEGIN
REPLY RD DO size=4096
SECTION QUESTION
example.com. TYPE65281
HEX_EDNSDATA_BEGIN
fde9 0000
HEX_EDNSDATA_END
ENTRY_END
STEP 1 CHECK_ANSWER
ENTRY_BEGIN
MATCH rcode ede=4,15 within=1500ms
REPLY NXDOMAIN
ENTRY_END
STEP 2 TIME_PASSES ELAPSE 30
STEP 3 CHANGE
allow: evil.example
CHANGE_END
STEP 4 OUT_QUERIES 3
STEP 5 NOTHING
SCENARIO_END
`

func TestParse(t *testing.T) {
	s, err := Parse("whole.rpl", strings.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	if s.Title != "Everything that the format has" || len(s.Settings) != 2 || s.Settings[0] != (Setting{"block", "evil.example exact", "whole.rpl:2"}) {
		t.Errorf("title %q, settings %v", s.Title, s.Settings)
	}
	r := s.ranges[0]
	first, second := r.entries[0].packets[0], r.entries[0].packets[1]
	if r.last != 10 || r.address.String() != "192.0.2.53" || !r.entries[0].match["UDP"] || first.sleep != 2*time.Second || !first.copyID || second.copyID {
		t.Errorf("range %+v", r)
	}
	if len(first.sections[0]) != 1 || !strings.Contains(first.sections[0][0].String(), "a; b") || len(first.sections[1]) != 1 || len(first.sections[2]) != 1 {
		t.Errorf("sections %v", first.sections)
	}
	if first.errors[0].InfoCode != 22 || first.errors[0].ExtraText != "why" || second.header.Rcode != 2 || second.edns != absent {
		t.Errorf("packets %+v, %+v", first, second)
	}
	if raw := r.entries[1].packets[0].raw; string(raw) != "\x00\x01\x81\x80" {
		t.Errorf("raw %x", raw)
	}
	query, check := s.steps[0], s.steps[1]
	if k := query.entry.packets[0]; query.address.String() != "192.0.2.9" || !k.do || k.size != 4096 || k.question[0].Qtype != 65281 || len(k.options) != 4 {
		t.Errorf("query %+v", k)
	}
	if check.entry.within != 1500*time.Millisecond || len(check.entry.ede) != 2 || s.steps[2].elapse != 30*time.Second || s.steps[3].settings[0].Key != "allow" || s.steps[4].count != 3 {
		t.Errorf("steps %+v", s.steps)
	}
}

// TestParseErrors checks that an error states the line and the mistake in it.
func TestParseErrors(t *testing.T) {
	const entry = "CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 QUERY\nENTRY_BEGIN\n"
	for text, want := range map[string]string{
		"":                                     `x.rpl:0: waiting for CONFIG_END`,
		"nonsense\n":                           `x.rpl:1: a setting is "key: value", not "nonsense"`,
		"server:\n":                            `x.rpl:1: a setting is`,
		"CONFIG_END":                           `waiting for SCENARIO_BEGIN`,
		"CONFIG_END\n\n; c\nRANGE_BEGIN 0 1\n": `x.rpl:4: SCENARIO_BEGIN and a title`,
		"CONFIG_END\nSCENARIO_BEGIN x\nSCENARIO_END\n":                                   `x.rpl:3: the scenario has no step`,
		"CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 NOTHING\n":                                 `waiting for SCENARIO_END`,
		"CONFIG_END\nSCENARIO_BEGIN x\nSTEPS 1 NOTHING\n":                                `x.rpl:3: unknown keyword "STEPS"`,
		"CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 INFRA_RTT\n":                               `x.rpl:3: unknown kind of step "INFRA_RTT"`,
		"CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 NOTHING at all\n":                          `x.rpl:3: unknown argument "at"`,
		"CONFIG_END\nSCENARIO_BEGIN x\nSTEP one NOTHING\n":                               `x.rpl:3: "one" is not a number`,
		"CONFIG_END\nSCENARIO_BEGIN x\nSTEP 2 NOTHING\nSTEP 1 NOTHING\n":                 `x.rpl:4: step 1 follows step 2`,
		"CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 TIME_PASSES EVAL ${1}\n":                   `EVAL is not supported`,
		"CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 OUT_QUERIES\n":                             `OUT_QUERIES needs a number`,
		"CONFIG_END\nSCENARIO_BEGIN x\nRANGE_BEGIN 5 1\n":                                `the range begins at step 5`,
		"CONFIG_END\nSCENARIO_BEGIN x\nRANGE_BEGIN 0 1\nADDRESS here\n":                  `x.rpl:4: ParseAddr`,
		"CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 CHECK_ANSWER\nENTRY_BEGIN\nENTRY_END\n":    `checks nothing without MATCH`,
		"CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 QUERY\nSTEP 2 NOTHING\n":                   `x.rpl:4: ENTRY_BEGIN must follow QUERY`,
		entry + "MATCH everything\n":                                                     `x.rpl:5: unknown keyword "everything" of MATCH`,
		entry + "MATCH ede=one\n":                                                        `"one" is not the code`,
		entry + "MATCH all\nENTRY_END\n":                                                 `needs SECTION QUESTION`,
		entry + "ADJUST copy_all\n":                                                      `unknown keyword "copy_all" of ADJUST`,
		entry + "REPLY QR XX\n":                                                          `unknown keyword "XX" of REPLY`,
		entry + "REPLY size=70000\n":                                                     `"70000" is not the size`,
		entry + "SECTION OTHER\n":                                                        `not "OTHER"`,
		entry + "EVERYTHING\n":                                                           `unknown keyword "EVERYTHING" in an entry`,
		entry + "SECTION ANSWER\nexample.com. IN A here\n":                               `x.rpl:6: unknown keyword or record`,
		entry + "SECTION ANSWER\n$INCLUDE /etc/passwd\n":                                 `"$INCLUDE" is not supported`,
		entry + "SECTION QUESTION\nexample.com. IN NONSENSE\n":                           `unknown type "NONSENSE"`,
		entry + "SECTION QUESTION\nexample.com. XX A\n":                                  `unknown class "XX"`,
		entry + "HEX_ANSWER_BEGIN\n0g\n":                                                 `hexadecimal bytes`,
		entry + "HEX_ANSWER_BEGIN\n00\n":                                                 `waiting for HEX_ANSWER_END`,
		"CONFIG_END\nSCENARIO_BEGIN x\n" + strings.Repeat("STEP 1 NOTHING\n", maxLines):  `more than 20000 lines`,
		"CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 NOTHING " + strings.Repeat("x", 2*maxLine): `token too long`,
	} {
		_, err := Parse("x.rpl", strings.NewReader(text))
		if err == nil || !strings.HasPrefix(err.Error(), "x.rpl:") || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %s", text, err, want)
		}
	}
}

// FuzzParse searches for files that make the parser panic.
func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse("x.rpl", strings.NewReader(text))
		if (s == nil) == (err == nil) {
			t.Errorf("Parse: %v, %v; want either a scenario or an error", s, err)
		}
	})
}
